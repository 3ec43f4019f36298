"""Where it is measured: folders of its own, file systems of its own, and `v` in them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import NotMeasured

V = Path(sys.executable).with_name("v")


@contextmanager
def folder() -> Iterator[Path]:
    """A short path: a socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="vb-", dir="/tmp") as path:
        yield Path(path)


@contextmanager
def file_system(kind: str, size: int) -> Iterator[Path]:
    """A mounted one of `size` bytes, in a sparse file."""
    if os.geteuid() != 0:
        raise NotMeasured("only root may mount the file system it needs")
    make = {"xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"), "ext4": ("mkfs.ext4", "-q")}[kind]
    with folder() as top:
        image, mounted = top / "image", top / "mounted"
        mounted.mkdir()
        with image.open("wb") as file:
            file.truncate(size)
        subprocess.run([*make, image], check=True)
        done = subprocess.run(["mount", "-o", "loop", image, mounted], check=False, capture_output=True, text=True)
        if done.returncode:
            raise NotMeasured(f"{kind} cannot be mounted here: {done.stderr.strip()}")
        try:
            yield mounted
        finally:
            subprocess.run(["umount", mounted], check=True)


def environment(top: Path) -> dict[str, str]:
    """For `v` with everything of its own in `top`. Python may keep what it compiles, as an installed one has it."""
    dropped = ("VIRSHLE_", "XDG_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    (top / "config.toml").touch()
    own = {"STATE_DIR": top / "s", "RUN_DIR": top / "r", "CONFIG": top / "config.toml"}
    return kept | {"HOME": str(top)} | {f"VIRSHLE_{name}": str(path) for name, path in own.items()}
