"""The command log that a subject keeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.support import FakeRequest, open_descriptors
from virshle.errors import HostError
from virshle.fs import Lock, try_lock
from virshle.plan import Apply, Call, Plan


def _call(name: str, error: BaseException | None = None, *undo: Call) -> Call:
    return Call(f"why {name}", FakeRequest(name, [], error), undo)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    (tmp_path / "vm").mkdir()
    return tmp_path / "vm" / "commands.log"


def _lines(journal: Path) -> list[str]:
    return [
        re.sub(r"^# \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "# TIME ", line) for line in journal.read_text().splitlines()
    ]


def test_each_step_is_written_with_time_and_reason(journal: Path) -> None:
    with Apply() as apply:
        apply(Plan("x", [_call("a"), _call("b")], journal))
    assert _lines(journal) == ["# TIME why a", "ask a", "# TIME why b", "ask b"]


def test_it_is_written_before_the_step_is_made(journal: Path) -> None:
    request = FakeRequest("a", [], then=lambda: seen.append(journal.read_text()))
    seen: list[str] = []
    with Apply() as apply:
        apply(Plan("x", [Call("why a", request)], journal))
    assert "ask a" in seen[0]


def test_it_is_its_owners_alone_and_is_appended_to(journal: Path) -> None:
    for _ in range(2):
        with Apply() as apply:
            apply(Plan("x", [_call("a")], journal))
    assert journal.stat().st_mode & 0o777 == 0o600
    assert len(_lines(journal)) == 4


def test_failures_and_undos_are_in_it(journal: Path) -> None:
    with pytest.raises(HostError), Apply() as apply:
        apply(Plan("x", [_call("a", HostError("broke\x1b"), _call("undo"))], journal))
    assert _lines(journal) == ["# TIME why a", "ask a", "# failed: broke\\x1b", "# TIME why undo", "ask undo"]


def test_while_its_folder_is_elsewhere_its_lines_wait(journal: Path) -> None:
    moved = journal.parent.with_name("moved")
    with Apply() as apply:
        apply(Plan("x", [_call("a")], journal))
        journal.parent.rename(moved)
        apply(Plan("x", [_call("b")], journal))
        assert not journal.parent.exists()
        moved.rename(journal.parent)
        apply(Plan("x", [_call("c")], journal))
    assert [line for line in _lines(journal) if line.startswith("ask")] == ["ask a", "ask b", "ask c"]


def test_lines_wait_until_the_folder_is_there(tmp_path: Path) -> None:
    journal = tmp_path / "later" / "commands.log"
    with Apply() as apply:
        apply(Plan("x", [_call("a")], journal))
        journal.parent.mkdir()
        apply(Plan("x", [_call("b")], journal))
    assert _lines(journal) == ["# TIME why a", "ask a", "# TIME why b", "ask b"]


def test_a_folder_that_never_comes_stops_nothing(tmp_path: Path) -> None:
    with Apply() as apply:
        apply(Plan("x", [_call("a")], tmp_path / "never" / "commands.log"))
    assert not (tmp_path / "never").exists()


def test_a_log_that_cannot_be_written_is_warned_about_and_stops_nothing(
    journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.symlink_to("/etc/passwd")  # never followed
    with Apply() as apply:
        apply(Plan("x", [_call("a")], journal))
    assert "cannot be written" in capsys.readouterr().err


def test_a_full_disk_stops_nothing_either(tmp_path: Path) -> None:
    apply = Apply()
    lock = Lock(tmp_path)
    try:
        with apply:
            apply.hold(lock)
            apply(Plan("x", [_call("a")], Path("/dev/full")))
        assert try_lock(tmp_path) is not None
    finally:
        lock.release()


def test_a_path_that_is_not_utf_8_stops_nothing(journal: Path) -> None:
    with Apply() as apply:
        apply(Plan("x", [_call("/tmp/\udcff")], journal))
    assert "ask" in journal.read_text(errors="replace")


def test_two_plans_with_two_logs_do_not_mix(tmp_path: Path) -> None:
    with Apply() as apply:
        for name in ("a", "b", "a"):
            apply(Plan(name, [_call(name)], tmp_path / name))
    assert [line for line in _lines(tmp_path / "a") if line.startswith("ask")] == ["ask a", "ask a"]
    assert [line for line in _lines(tmp_path / "b") if line.startswith("ask")] == ["ask b"]


def test_no_log_is_kept_open(tmp_path: Path) -> None:
    """Plans of thousands of VMs may be in one context."""
    before = open_descriptors()
    with Apply() as apply:
        for name in "abc":
            apply(Plan(name, [_call(name)], tmp_path / name))
        assert open_descriptors() == before
