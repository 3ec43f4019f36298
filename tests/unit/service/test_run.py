"""One command in a VM of its own: what is done in which order, and that the VM stays only for what it alone has."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import snapshot
from virshle.errors import ConflictError, HostError, NotFoundError, TimedOutError, VirshleError
from virshle.exec import Command, Result
from virshle.model.vm import Vm
from virshle.service import run as service
from virshle.service.node import Node
from virshle.service.run import Job, run

JOB = Job("t", ("true",))


class Inside:
    """A guest that is ready at once, in which there is a file `result`."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.code = 7
        self.fails: dict[str, BaseException] = {}
        """To copy what has that name."""
        self.says: list[str] = []

    def attached(self, argv: tuple[str, ...]) -> int:
        self.ran.append(argv)
        return self.code

    def follow(self, command: Command, on_line: Callable[[str], None], **_: object) -> Result:
        words = command.argv
        self.ran.append(words[1:])
        for line in self.says:
            on_line(line)
        if "tar -x --no-same-owner" in words[2]:
            name = Path(shlex.split(words[-1].partition("-C ")[2])[1]).name
            if name in self.fails:
                raise self.fails[name]
            if name != "other":
                (Path(words[4]) / name).write_text("came")
        return Result(command, 0, "", "", 0.1)


@pytest.fixture
def inside(guest: Guest, host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Inside:
    inside = Inside()
    host.have("bash")
    monkeypatch.setattr("virshle.exec.follow", inside.follow)
    monkeypatch.setattr(service, "attached", inside.attached)
    monkeypatch.setattr(service, "wait_ready", lambda *_, **__: "it")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("x")
    return inside


@pytest.fixture
def ran(inside: Inside) -> list[tuple[str, ...]]:
    return inside.ran


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
    node: Node, inside: Inside, capsys: pytest.CaptureFixture[str]
) -> None:
    job = replace(JOB, out=["other"])
    assert run(node, job) == 7
    assert "other was not copied out" in capsys.readouterr().err
    assert node.store.entries() == []
    inside.code = 0
    with pytest.raises(HostError, match="does not exist in the guest"):
        run(node, job)


@pytest.mark.parametrize("error", [HostError("disk full"), TimedOutError("ssh is gone"), KeyboardInterrupt()])
@pytest.mark.parametrize("code", [0, 7])
def test_what_the_command_made_is_kept_where_it_cannot_be_copied_out(
    error: BaseException, code: int, node: Node, inside: Inside, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside.code, inside.fails = code, {"a b": error}
    job = replace(JOB, out=["/srv/a b", "result"])
    if code and isinstance(error, VirshleError):
        assert run(node, job) == code
    else:
        with pytest.raises(type(error)):
            run(node, job)
    (entry,) = node.store.entries()
    said = capsys.readouterr().err
    assert f"to delete it: v delete --force {entry.name}" in said
    line = next(line for line in said.splitlines() if line.startswith("/srv/a b is only in"))
    assert line.endswith(f"""v ssh {entry.name} 'tar -cf - -C /srv ./'"'"'a b'"'"'' | tar -xf -""")
    # What can be copied is.
    assert (tmp_path / "result").exists() is isinstance(error, VirshleError)


def test_of_several_failures_each_is_told(node: Node, inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    inside.code, inside.fails = 0, {"a": HostError("one"), "b": HostError("two")}
    with pytest.raises(HostError) as caught:
        run(node, replace(JOB, out=["a", "b"]))
    assert caught.value.message == "a was not copied out: one"
    assert "b was not copied out: two" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told_before_anything_is_made(
    node: Node, inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "create", _fail(AssertionError()))
    with pytest.raises(HostError, match="cannot put result into /proc"):
        run(node, replace(JOB, out=["result:/proc/x/y"]))
    with pytest.raises(HostError, match="Not a directory"):
        run(node, replace(JOB, out=["result:notes/x"]))
    with pytest.raises(ConflictError, match="two --out go to"):
        run(node, replace(JOB, out=["a/x", "b/x"]))
    with pytest.raises(ConflictError, match="/dev/null is not a plain file"):
        run(node, replace(JOB, out=["result:/dev/null"]))


def test_whether_a_place_can_be_written_is_tried_without_a_trace(
    node: Node, inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "create", _fail(KeyboardInterrupt()))
    before = snapshot(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(node, replace(JOB, out=["result:new/folder/"]))
    assert snapshot(tmp_path) == before


def test_a_file_that_grows_while_it_is_copied_is_a_warning(
    node: Node, inside: Inside, capsys: pytest.CaptureFixture[str]
) -> None:
    inside.says = ["tar: ./log: file changed as we read it", "tar: ./x: File removed before we read it"]
    assert run(node, replace(JOB, into=["notes"])) == 7
    said = capsys.readouterr().err
    assert f"warning: copy {Path.cwd()}/notes in: tar: ./log: file changed as we read it" in said
    assert "File removed" in said


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
