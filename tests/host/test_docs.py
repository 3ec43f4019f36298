"""What the documentation says to type, typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.host.host import LONG, Host, V
from tests.host.test_import import qcow2, raw_disk

DOCS = Path(__file__).parents[2] / "docs"
_RUN = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["images", "run"])
def test_its_blocks_run(page: str, host: Host, tmp_path: Path) -> None:
    if page == "images":
        if shutil.which("qemu-img") is None:
            pytest.skip("SKIPPED LOUDLY: qemu-img is not here")
        qcow2(tmp_path / "cloud.qcow2", raw_disk(tmp_path / "disk"))
    blocks = _RUN.findall((DOCS / f"{page}.md").read_text())
    assert blocks
    env = host.environment() | {"PATH": f"{V.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euxc", "\n".join(blocks)], cwd=tmp_path, env=env, text=True, capture_output=True, timeout=LONG
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if page == "run":
        assert "made of hello" in done.stdout
        assert "it ended with 7" in done.stdout
        assert host.ls() == []
    host.check()
