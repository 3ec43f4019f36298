"""One command in a VM of its own: what is done in which order, and that the VM never stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from virshle.errors import ConflictError, HostError, NotFoundError, TimedOutError
from virshle.model.vm import Vm
from virshle.service import run as service
from virshle.service.node import Node
from virshle.service.run import Job, run

JOB = Job("t", ("true",))
Command = Callable[[tuple[str, ...]], int]


@pytest.fixture
def ran(guest: Guest, host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    """What was run in the guest, which is ready at once. tar brings a file `result`."""
    commands: list[tuple[str, ...]] = []

    def attached(argv: tuple[str, ...]) -> int:
        commands.append(argv)
        return 7

    def bash(words: tuple[str, ...]) -> str:
        commands.append(words)
        if "tar -x --no-same-owner" in words[1]:
            (Path(words[3]) / "result").write_text("came")
        return ""

    host.have("bash")
    host.answers["bash"] = bash
    monkeypatch.setattr(service, "attached", attached)
    monkeypatch.setattr(service, "wait_ready", lambda *_, **__: "it")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("x")
    return commands


def test_what_is_named_goes_in_and_out_around_the_command(
    node: Node, ran: list[tuple[str, ...]], tmp_path: Path
) -> None:
    assert run(node, replace(JOB, into=["notes"], out=["result"], words=("a", "b c"))) == 7
    send, command, fetch = ran
    assert "tar -x -o" in send[-1]
    assert command[-1] == "a 'b c'"
    assert "tar -cf" in fetch[-1]
    assert (tmp_path / "result").read_text() == "came"
    assert node.store.entries() == []


def test_it_is_kept_when_asked(node: Node, ran: list[tuple[str, ...]]) -> None:
    run(node, replace(JOB, keep=True))
    assert len(node.store.entries()) == 1


def _fail(error: BaseException) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize("what", ["start", "wait_ready", "attached", "send_step"])
@pytest.mark.parametrize("error", [HostError("no"), KeyboardInterrupt(), TimedOutError("late")])
def test_whatever_fails_the_vm_is_deleted(
    what: str, error: BaseException, node: Node, ran: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, what, _fail(error))
    with pytest.raises(type(error)):
        run(node, replace(JOB, into=["notes"]))
    assert node.store.entries() == []


def test_what_did_not_come_out_is_a_failure_unless_the_command_failed(
    node: Node, ran: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = replace(JOB, out=["other"])
    assert run(node, job) == 7
    assert "other was not copied out" in capsys.readouterr().err
    monkeypatch.setattr(service, "attached", lambda _: 0)
    with pytest.raises(HostError, match="did not come out"):
        run(node, job)
    assert node.store.entries() == []


def test_bad_words_are_told_before_anything_is_made(
    node: Node, ran: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> list[Vm]:
        raise AssertionError

    monkeypatch.setattr(service, "create", refuse)
    (tmp_path / "there").mkdir()
    with pytest.raises(NotFoundError):
        run(node, replace(JOB, into=["nowhere"]))
    with pytest.raises(ConflictError):
        run(node, replace(JOB, out=["there"]))


def test_a_dry_run_says_what_would_follow(node: Node, ran: list[tuple[str, ...]]) -> None:
    shown: list[str] = []
    assert run(replace(node, dry_run=shown.append), replace(JOB, into=["notes"], out=["result"])) == 0
    assert [line.partition(" ")[2].split()[1] for line in shown[-1].splitlines()] == [
        *("start", "copy", "run", "copy", "delete")
    ]
    assert (ran, node.store.entries()) == ([], [])


@pytest.mark.parametrize("terminal", [True, False])
def test_the_command_has_a_terminal_where_input_and_output_are_one(
    terminal: bool, node: Node, ran: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.isatty", lambda _: terminal)
    run(node, replace(JOB, into=["notes"]))
    send, command = ran
    assert ("-t" in command) is terminal
    assert "-t" not in send
