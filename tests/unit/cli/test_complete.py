"""What a shell is answered, and the script by which it asks."""

from __future__ import annotations

import os
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from tests.unit.cli.conftest import V
from tests.unit.support import make_vm, put_vm
from virshle.cli import show
from virshle.cli.main import COMPLETE
from virshle.service.show import Row
from virshle.store import Layout


@pytest.fixture
def ask(v: V, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """A host with VMs `web` and `db`, a template `own` and its image, and an imported one."""
    put_vm(layout, make_vm("web", 1))
    put_vm(layout, make_vm("db", 2))
    layout.paths.config.write_text(
        '[[image]]\nname = "mine"\npath = "x"\n'
        '[[template.vm]]\nname = "own"\n[[template.vm.disk]]\nname = "os"\nimage = "mine"\n'
    )
    layout.image("debian").mkdir()
    layout.paths.imported("debian").touch()
    (layout.images / ".new-x").mkdir()
    return Ask(v, monkeypatch)


class Ask:
    def __init__(self, v: V, monkeypatch: pytest.MonkeyPatch) -> None:
        self._v = v
        self._monkeypatch = monkeypatch

    def __call__(self, line: str) -> list[str]:
        """The words that may follow; the last of `line` is begun."""
        words = line.split(" ")
        self._monkeypatch.setenv(COMPLETE, "bash_complete")
        self._monkeypatch.setenv("COMP_WORDS", line)
        self._monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        ran = self._v()
        assert ran.err == ""
        return ran.out.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        *(
            (f"v {verb} ", ["db", "web"])
            for verb in ("start", "stop", "delete", "info", "ssh", "console", "logs", "vm ls")
        ),
        ("v start w", ["web"]),
        ("v start web d", ["db"]),
        ("v ls --name ", ["db", "web"]),
        ("v ls --state r", ["running"]),
        ("v create -t ", ["nixos", "own", "tiny"]),
        ("v run --template t", ["tiny"]),
        ("v image build ", ["debian", "mine", "nixos", "tiny"]),
        ("v image delete d", ["debian"]),
        ("v image update m", ["mine"]),
        ("v comp", ["completion"]),
        ("v completion ", ["bash", "zsh", "fish"]),
        ("v ls --fo", ["--format"]),
        ("v ls --format y", ["yaml"]),
        ("v ls -c st", ["state"]),
        ("v ls -c name,st", ["name,state"]),
        ("v ls -c state,st", []),
        ("v image ls -c b", ["built"]),
        ("v template ls --columns vc", ["vcpu"]),
        ("v config show -c fr", ["from"]),
        ("v doctor -c re", ["remedy"]),
        ("v image list --fo", ["--format"]),
    ],
)
def test_words_complete(line: str, words: list[str], ask: Ask) -> None:
    assert ask(line) == [f"plain,{word}" for word in words]


@pytest.mark.parametrize("line", ["v image import x", "v run --in x", "v create -u x"])
def test_the_shell_completes_paths(line: str, ask: Ask) -> None:
    assert ask(line) == ["file,x"]


@pytest.mark.parametrize(
    "text", ["{", "template = 1", "[template]\nvm = 1", "[[image]]\nname = 1", "image = [1]", "\udcff"]
)
def test_a_configuration_that_is_wrong_disturbs_nobody(text: str, ask: Ask) -> None:
    Path(os.environ["VIRSHLE_CONFIG"]).write_bytes(text.encode(errors="surrogateescape"))
    assert ask("v create -t ") == ["plain,nixos", "plain,tiny"]
    assert ask("v image build ") == ["plain,debian", "plain,nixos", "plain,tiny"]


def test_a_host_without_state_has_no_vms(ask: Ask, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRSHLE_STATE_DIR", str(layout.paths.state / "nowhere"))
    assert ask("v start ") == []
    monkeypatch.setenv("VIRSHLE_STATE_DIR", "~nobody-at-all/x")
    assert ask("v start ") == []


@pytest.mark.parametrize(
    ("shell", "lines"),
    [
        ("bash", ["complete -o nosort -F _v_completion v virshle"]),
        ("zsh", ["#compdef v virshle", "compdef _v_completion v virshle"]),
        ("fish", ["--command v --command virshle "]),
    ],
)
@pytest.mark.parametrize("program", ["v", "virshle"])
def test_the_script_of_each_shell_completes_both_names(
    shell: str, lines: list[str], program: str, v: V, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.core._detect_program_name", lambda: program)
    ran = v("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert f"{COMPLETE}={shell}_complete" in ran.out
    assert all(line in ran.out for line in lines)
    assert shlex.split(ran.out.replace("'", ""), comments=True)


def test_an_unknown_shell_is_a_usage_error(v: V) -> None:
    assert v("completion", "tcsh").code == 2


def test_the_columns_are_those_of_a_row() -> None:
    assert tuple(field.name for field in fields(Row)) == show._ALL
