"""Completion by a real bash, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.host.host import Host, V
from tests.host.test_kill import one_image

COMPLETE = """
source /dev/stdin <<<"$(v completion bash)"
complete -p v
COMP_WORDS=($1 "$2") COMP_CWORD=${#COMP_WORDS[@]}
COMP_CWORD=$((COMP_CWORD - 1))
_v_completion v
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_bash_completes_names(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    env = bare.environment() | {"PATH": f"{V.parent}:{os.environ['PATH']}"}
    for line, begun, words in (("v start", "w", ["web"]), ("v create -t", "p", ["plain"]), ("v", "doc", ["doctor"])):
        done = subprocess.run(
            ["bash", "-c", COMPLETE, "bash", line, begun], env=env, text=True, capture_output=True, check=True
        )
        first, *rest = done.stdout.splitlines()
        assert "-F _v_completion" in first
        assert rest == words, done.stderr


@pytest.mark.parametrize("line", ["v start ", "v create -t ", "v image build ", "v ls --state ", "v "])
def test_nothing_that_takes_long_is_imported_for_a_key(bare: Host, line: str) -> None:
    asked = {"_V_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(V)],
        env=bare.environment() | asked,
        text=True,
        capture_output=True,
        check=True,
    )
    imported = {text.rpartition("|")[2].strip() for text in done.stderr.splitlines()}
    assert "virshle.config.names" in imported
    slow = (
        "pydantic",
        "rich",
        "sh",
        "jinja2",
        "subprocess",
        "asyncio",
        "virshle.service",
        "virshle.store",
        "virshle.vmm",
    )
    assert not [name for name in imported if name.startswith(slow[4:]) or name.split(".")[0] in slow]
