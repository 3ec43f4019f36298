"""Verbs that change VMs, as they are typed."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path
from typing import Any

import click
import pytest

from tests.unit.cli.conftest import V
from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import make_vm, put_broken, put_vm, snapshot, uuid_of
from virshle.cli.lifecycle import each
from virshle.errors import ConflictError, TimedOutError
from virshle.service.node import Entry, Node
from virshle.store import Layout
from virshle.vmm import qemu


@pytest.fixture
def guest(layout: Layout, host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
    """A host with a template `t`."""
    (tmp_path / "image.raw").write_bytes(b"\0" * 512)
    (tmp_path / "vars").write_text("")
    monkeypatch.setattr(qemu, "find_firmware", lambda arch: (tmp_path / "vars", tmp_path / "vars"))
    disk = f'[[template.vm.disk]]\nname = "os"\npath = "{tmp_path / "image.raw"}"\n'
    net = '[[template.vm.net]]\nname = "n"\ntype = "user"\n'
    layout.paths.config.write_text(f'[[template.vm]]\nname = "t"\nvram = "64MiB"\n{disk}{net}')
    return Guest(host, monkeypatch)


def _names(v: V, *words: str) -> list[str]:
    return v("ls", "-q", *words).out.split()


def test_create_prints_the_names_and_nothing_else_on_stdout(guest: Guest, v: V) -> None:
    ran = v("create", "-t", "t", "web")
    assert (ran.code, ran.out) == (0, "web\n")
    assert "created web (1) from t" in ran.err
    assert "next: v start web" in ran.err
    assert v("create", "-t", "t", "db", "-n", "2").out == "db-1\ndb-2\n"
    assert _names(v) == ["web", "db-1", "db-2"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["-t", "tt", "x"], 4),
        (["-t", "t", "Bad_Name"], 2),
        (["-t", "t", ""], 2),
        (["-t", "t", "taken"], 5),
        (["-t", "t", "-u", "/nowhere"], 4),
    ],
)
def test_a_create_that_cannot_be_ends_with_its_code(
    words: list[str], code: int, guest: Guest, v: V, layout: Layout
) -> None:
    put_vm(layout, make_vm("taken"))
    before = snapshot(layout.paths.state)
    ran = v("create", *words)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ")
    assert "hint: " in ran.err
    assert snapshot(layout.paths.state) == before


def test_a_vm_goes_its_way(guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    ran = v("start", "web")
    assert (ran.code, ran.out) == (0, "")
    assert "started web" in ran.err
    assert "web is running already" in v("start", "web").err
    assert _names(v, "--state", "running") == ["web"]
    assert v("delete", "web").code == 5
    assert "stopped web gracefully" in v("stop", "web").err
    assert "web is stopped already" in v("stop", "web").err
    ran = v("delete", "web")
    assert (ran.code, ran.out, ran.err) == (0, "", "deleted web\n")
    assert _names(v) == []


def test_vms_stand_still_and_go_on(guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    assert v("pause", "web") == (5, "", "error: web is stopped\nhint: start it: v start web\n")
    v("start", "web")
    assert v("resume", "web") == (0, "", "web is running already\n")
    assert v("pause", "web") == (0, "", "paused web\n")
    assert _names(v, "--state", "paused") == ["web"]
    assert v("pause", "web") == (0, "", "web is paused already\n")
    assert v("resume", "web") == (0, "", "resumed web\n")
    assert _names(v, "--state", "running") == ["web"]


def test_of_all_those_are_paused_that_run(guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    assert v("pause", "--all") == (0, "", "no VM matches: nothing to do\n")
    v("start", "web")
    v("create", "-t", "t", "db")
    assert v("resume", "--all") == (0, "", "no VM matches: nothing to do\n")
    assert v("pause", "--all") == (0, "", "paused web\n")


@pytest.mark.parametrize("verb", ["start", "stop", "delete", "info", "pause", "resume"])
def test_nothing_named_is_a_usage_error(verb: str, guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    ran = v(verb)
    assert (ran.code, ran.out) == (2, "")
    assert "name at least one VM" in ran.err


@pytest.mark.parametrize("words", [["--account", ""], ["--state", ""]])
def test_an_empty_selector_deletes_nothing(words: list[str], guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    v("delete", "--yes", *words)
    assert _names(v) == ["web"]


def test_many_are_deleted_only_when_that_is_said(guest: Guest, v: V) -> None:
    v("create", "-t", "t", "db", "-n", "2")
    for words in (["--all"], ["db-1", "db-2"], ["--state", "stopped"]):
        ran = v("delete", *words)
        assert ran.code == 2
        assert "this would delete 2 VMs: db-1, db-2" in ran.err
    assert _names(v) == ["db-1", "db-2"]
    assert v("delete", "--all", "--yes").code == 0
    assert _names(v) == []


def test_an_unknown_one_among_many_refuses_all(guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    assert v("delete", "--yes", "web", "nope").code == 4
    assert _names(v) == ["web"]


def test_a_running_one_among_many_refuses_all(guest: Guest, v: V) -> None:
    v("create", "-t", "t", "db", "-n", "2")
    v("start", "db-2")
    ran = v("delete", "--yes", "--all")
    assert ran.code == 5
    assert "db-2 is running, and nothing was deleted" in ran.err
    assert _names(v) == ["db-1", "db-2"]


def test_broken_vms_are_not_deleted_by_all(guest: Guest, v: V, layout: Layout) -> None:
    put_broken(layout, uuid_of("bad"), name="bad")
    left = v("delete", "--all", "--yes", "--force")
    assert (left.code, "broken VMs are left out: bad" in left.err) == (0, True)
    assert "left out: bad" in v("delete", "--state", "broken", "--yes").err
    assert _names(v) == ["bad"]
    assert v("delete", "bad").code == 5
    assert v("delete", "--state", "broken", "--yes", "--force").code == 0
    assert _names(v) == []


def test_an_empty_word_deletes_nothing(guest: Guest, v: V, layout: Layout) -> None:
    put_broken(layout, uuid_of("bad"), name="bad")
    assert v("delete", "--force", "").code in (2, 4)
    assert _names(v) == ["bad"]


@pytest.mark.parametrize(
    "words",
    [
        ["create", "-t", "t", "x"],
        ["create", "-t", "t", "x", "--start", "--wait"],
        ["start", "web"],
        ["start", "web", "--wait"],
        ["delete", "web"],
        ["stop", "web"],
    ],
)
def test_a_dry_run_prints_a_script_and_does_nothing(words: list[str], guest: Guest, v: V, layout: Layout) -> None:
    v("create", "-t", "t", "web")
    before = snapshot(layout.paths.state)
    ran = v(*words, "--dry-run")
    assert ran.code == 0
    assert snapshot(layout.paths.state) == before
    assert all(line.startswith("# ") for line in ran.out.splitlines()[:1])
    assert "created" not in ran.err


def test_what_is_run_is_shown_when_asked_before_or_behind_the_verb(guest: Guest, v: V) -> None:
    assert "+ cp --reflink=auto" in v("-vvv", "create", "-t", "t", "a").err
    assert "+ cp --reflink=auto" in v("create", "-t", "t", "b", "-vvv").err


def _entries(node: Node, layout: Layout, count: int) -> list[Entry]:
    for number in range(1, count + 1):
        put_vm(layout, make_vm(f"vm-{number}", number))
    return node.store.entries()


@pytest.mark.parametrize("together", [True, False])
def test_each_acts_on_all_tells_each_failure_and_fails_by_the_first(
    together: bool, node: Node, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    acted: list[str] = []

    def act(entry: Entry) -> None:
        acted.append(entry.name)
        if entry.name != "vm-2":
            raise ConflictError(f"{entry.name} is busy")

    assert each(_entries(node, layout, 3), act, together=together) == 5
    assert sorted(acted) == ["vm-1", "vm-2", "vm-3"]
    err = capsys.readouterr().err
    assert "error: vm-1: vm-1 is busy" in err
    assert "error: vm-3: vm-3 is busy" in err
    assert "2 of 3 failed" in err


def test_together_they_wait_at_the_same_time(node: Node, layout: Layout) -> None:
    barrier = threading.Barrier(3, timeout=30)

    def act(_: Entry) -> None:
        barrier.wait()

    assert each(_entries(node, layout, 3), act, together=True) == 0


def test_one_alone_is_told_without_its_name_twice(
    node: Node, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(_: Entry) -> None:
        raise TimedOutError("vm-1 is slow")

    assert each(_entries(node, layout, 1), act) == 8
    assert capsys.readouterr().err == "error: vm-1 is slow\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unforeseen_error_in_a_thread_is_no_success(node: Node, layout: Layout) -> None:
    def act(_: Entry) -> None:
        raise OSError(28, "No space left on device")

    try:
        code = each(_entries(node, layout, 2), act, together=True)
    except OSError:
        return
    assert code != 0


@pytest.mark.parametrize("seconds", ["-1", "86401", "1.5", "", "x", "nan", "inf", "1e3"])
@pytest.mark.parametrize("words", [["start", "web", "--wait"], ["stop", "web"], ["create", "-t", "t", "x", "--wait"]])
def test_a_timeout_is_whole_seconds_of_a_day(words: list[str], seconds: str, guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    ran = v(*words, "--timeout", seconds)
    assert (ran.code, ran.out) == (2, "")
    assert "--timeout" in ran.err
    assert _names(v) == ["web"]


def test_who_answers_no_deletes_nothing(guest: Guest, v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    v("create", "-t", "t", "db", "-n", "2")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    ran = v("delete", "--all")
    assert (ran.code, ran.out) == (130, "")
    assert "Delete 2 VMs for good: db-1, db-2?" in ran.err
    assert ran.err.endswith("nothing was deleted\n")
    assert _names(v) == ["db-1", "db-2"]


def test_one_is_asked_for_as_many_are_unless_it_is_said(guest: Guest, v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    v("create", "-t", "t", "db", "-n", "2")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    ran = v("delete", "db-1")
    assert ran.code == 130
    assert "Delete the VM for good: db-1?" in ran.err
    assert _names(v) == ["db-1", "db-2"]
    assert v("delete", "db-1", "-y").code == 0
    assert _names(v) == ["db-2"]


def test_a_script_is_not_asked_for_one(guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    assert v("delete", "web") == (0, "", "deleted web\n")


@pytest.mark.parametrize(("error", "code"), [(OSError(28, "No space left on device"), 6), (BrokenPipeError(), 141)])
def test_who_cannot_be_told_the_names_has_the_vms_and_they_run(
    error: OSError, code: int, guest: Guest, v: V, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = click.echo

    def full(*words: Any, **more: Any) -> None:
        if not more.get("err"):
            raise error
        echo(*words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(click, "echo", full)
        ran = v("create", "-t", "t", "web", "--start")
    assert ran.code == code
    assert "created web (1) from t\nstarted web\n" in ran.err
    if code == 6:
        assert "error: created web, but stdout cannot be written to: No space left on device\n" in ran.err
    assert v("ls", "-c", "name,state", "--format", "csv").out == "name,state\nweb,running\n"


def test_who_answers_yes_deletes_them(guest: Guest, v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    v("create", "-t", "t", "db", "-n", "2")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert v("delete", "--all").code == 0
    assert _names(v) == []


def test_a_broken_one_among_many_refuses_all(guest: Guest, v: V, layout: Layout) -> None:
    v("create", "-t", "t", "web")
    put_broken(layout, uuid_of("bad"), name="bad")
    ran = v("delete", "--yes", "web", "bad")
    assert ran.code == 5
    assert "bad is broken" in ran.err
    assert _names(v) == ["web", "bad"]


def test_one_that_only_looks_whole_refuses_all_too(guest: Guest, v: V, layout: Layout) -> None:
    """Lists read no more of a definition than they show."""
    v("create", "-t", "t", "web")
    folder = put_vm(layout, make_vm("odd", 2))
    text = (folder / "vm.json").read_text()
    (folder / "vm.json").write_text(text.replace('"cmdline":"console=ttyS0"', '"cmdline":7'))
    ran = v("delete", "--yes", "web", "odd")
    assert ran.code == 5
    assert "odd is broken" in ran.err
    assert _names(v) == ["web", "odd"]


@pytest.mark.parametrize(
    "words", [["start", "--state", "paused"], ["stop", "--all"], ["delete", "--account", str(uuid_of("a"))]]
)
def test_a_selector_that_matches_none_says_so(words: list[str], guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    assert v(*words) == (0, "", "no VM matches: nothing to do\n")
    assert _names(v) == ["web"]


def test_what_was_waited_for_is_told(guest: Guest, v: V, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virshle.plan.conditions.Greets.holds", lambda *_: True)
    ran = v("create", "-t", "t", "web", "--wait", "--timeout", "5")
    assert (ran.code, ran.out) == (0, "web\n")
    assert "s for web's ssh server to answer; next: v ssh web" in ran.err


def test_stop_all_counts_a_broken_vm_that_runs(guest: Guest, v: V, layout: Layout) -> None:
    v("create", "-t", "t", "web")
    v("start", "web")
    (folder,) = layout.vms.iterdir()
    (folder / "vm.json").write_text("{")
    put_broken(layout, uuid_of("bad"), name="bad")
    assert v("ls", "--state", "running", "-q").out.split() == ["web"]
    assert v("ls", "--state", "broken", "-q").out.split() == ["bad"]
    ran = v("stop", "--all")
    assert (ran.code, ran.err) == (0, "stopped web gracefully\n")
    assert "no VM matches" in v("stop", "--all").err


def test_a_start_of_a_paused_one_says_what_it_did(guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    v("create", "-t", "t", "db")
    v("start", "web")
    v("pause", "web")
    assert v("start", "web") == (0, "", "resumed web, which was paused\n")
    v("pause", "web")
    assert v("start", "--state", "paused") == (0, "", "resumed web, which was paused\n")


def test_one_whose_vmm_says_nothing_is_not_said_to_be_well(guest: Guest, v: V) -> None:
    v("create", "-t", "t", "web")
    v("start", "web")
    guest.status = "odd"
    ran = v("start", "web")
    assert ran.code == 0
    assert "web is running already, but its VMM does not tell its state: QEMU says that its state is 'odd'" in ran.err
