"""Completion by the real shells, and what it costs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.host import LONG, Host, V
from tests.host.test_kill import one_image

DOCS = Path(__file__).parents[2] / "docs"
_RUN = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMPLETE = """
program=${1%% *}
source ~/.local/share/bash-completion/completions/$program
complete -p $program
COMP_WORDS=($1 "$2") COMP_CWORD=${#COMP_WORDS[@]}
COMP_CWORD=$((COMP_CWORD - 1))
_v_completion $program
printf '%s\\n' "${COMPREPLY[@]}"
"""


# Types the line and a tab into an interactive zsh, and has it say what became of the line.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=(~/.zfunc \$fpath); autoload -Uz compinit; compinit -D -u"
zpty -w shell "show() { print -r -- \"<\$BUFFER>\" }; zle -N show; bindkey '^T' show; print rea''dy"
zpty -r -m shell said '*ready*'
zpty -w -n shell $1$'\t\x14'
zpty -r -m shell said '*<*>*'
print -r -- ${${said##*<}%%>*}
"""


@pytest.fixture
def env(bare: Host) -> dict[str, str]:
    """Of a host with the template `plain` and the VM `web`, where completion is installed as its page has it."""
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    env = bare.environment() | {"PATH": f"{V.parent}:{os.environ['PATH']}"}
    (block,) = _RUN.findall((DOCS / "commands.md").read_text())
    subprocess.run(["bash", "-euc", block], env=env, check=True)
    return env


def shell(env: dict[str, str], *argv: str) -> str:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"SKIPPED LOUDLY: {argv[0]} is not here")
    return subprocess.run(argv, env=env, text=True, capture_output=True, check=True, timeout=LONG).stdout


def test_zsh_completes_names(env: dict[str, str]) -> None:
    for line, whole in (
        ("v start w", "v start web "),
        ("v create -t p", "v create -t plain "),
        ("v image bui", "v image build "),
        ("v ls --state run", "v ls --state running "),
        ("virshle start w", "virshle start web "),
        ("v ls -c name,sta", "v ls -c name,state "),
    ):
        assert shell(env, "zsh", "-f", "-c", ZSH, "zsh", line) == f"{whole}\n"


def test_fish_completes_names(env: dict[str, str]) -> None:
    for line, words in (
        ("v start ", ["web"]),
        ("v create -t p", ["plain"]),
        ("v image bui", ["build"]),
        ("v ls --state run", ["running"]),
        ("virshle start ", ["web"]),
        ("v ls -c name,st", ["name,state"]),
    ):
        # After a tab comes what it does.
        said = shell(env, "fish", "-c", "complete -C $argv[1]", line)
        assert [word.partition("\t")[0] for word in said.splitlines()] == words


def test_bash_completes_names(env: dict[str, str]) -> None:
    for line, begun, words in (
        ("v start", "w", ["web"]),
        ("v create -t", "p", ["plain"]),
        ("v", "doc", ["doctor"]),
        ("v image", "bui", ["build"]),
        ("virshle start", "w", ["web"]),
        ("v ls -c", "name,st", ["name,state"]),
    ):
        first, *rest = shell(env, "bash", "-c", COMPLETE, "bash", line, begun).splitlines()
        assert "-F _v_completion" in first
        assert rest == words


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
