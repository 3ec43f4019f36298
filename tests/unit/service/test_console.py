from __future__ import annotations

import fcntl
import os
import select
import shutil
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.console_guest import Guest
from tests.unit.support import make_vm, open_descriptors, put_broken, put_vm, told, uuid_of
from tests.unit.vmm.test_driver import LAUNCH
from virshle.errors import ConflictError, HostError
from virshle.service import console as service
from virshle.service.console import KEPT, PATIENCE, SCROLLBACK, UNSENT, Console
from virshle.service.node import Node
from virshle.store import Layout
from virshle.vmm.driver import Terminal

WEB = uuid_of("web")


@pytest.fixture
def guest(layout: Layout, host: FakeHost) -> Iterator[Guest]:
    put_vm(layout, make_vm())
    run = host.run_vm(layout, WEB)
    node = Node(layout.paths)
    node.place(WEB).launch.write_text(LAUNCH.json())
    guest = Guest(node, run)
    yield guest
    guest.close()


@pytest.fixture
def serial(guest: Guest) -> Guest:
    guest.fifo()
    return guest


@pytest.fixture
def pty(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> Guest:
    monkeypatch.setattr(service, "driver_of", lambda launch, place: guest)
    guest.pty()
    return guest


def shown(viewer: Console, until: bytes = b"") -> bytes:
    """All there is for it now; or until it ends with that, as a pty passes on by a worker of the kernel's."""
    text, deadline = b"", time.monotonic() + 60
    while True:
        viewer.pump()
        more = viewer.output()
        text += more
        if not more and text.endswith(until):
            return text
        assert time.monotonic() < deadline, text


def heard(guest: Guest, text: bytes) -> bool:
    got = b""
    while len(got) < len(text) and select.select([guest.side], [], [], 60)[0]:
        got += guest.heard()
    return got == text


def test_a_viewer_sees_the_end_of_the_log_from_a_line_on_and_then_what_is_added(serial: Guest) -> None:
    line = b"0123456789\n"
    serial.says(line * SCROLLBACK)
    with serial.view() as viewer:
        first = shown(viewer)
        assert first == line * (SCROLLBACK // len(line))
        assert viewer.output() == b""
        serial.says(b"more")
        assert shown(viewer) == b"more"


def test_nothing_is_sent_but_what_is_typed(serial: Guest) -> None:
    with serial.view() as viewer:
        viewer.resize(33, 101)
        shown(viewer)
        assert serial.heard() == b""
        viewer.input(b"ls\x03\n")
        assert serial.heard() == b"ls\x03\n"
    with serial.view(typing=False) as viewer:
        viewer.input(b"never")
        shown(viewer)
    assert serial.heard() == b""


@pytest.mark.parametrize(
    "question",
    [
        b"\x1b[6n",
        b"\x1b[c",
        b"\x1b[>0c",
        b"\x1b[?2026$p",
        b"\x1b[>q",
        b"\x1b[?u",
        b"\x1b[18t",
        b"\x1b]11;?\x07",
        b"\x1b]11;?\x1b\\",
        b"\x1bP+q544e\x1b\\",
        b"\x05",
        b"\x1bZ",
    ],
)
def test_an_old_question_to_a_terminal_is_not_asked_again(question: bytes, serial: Guest) -> None:
    """Its answer would be typed into the guest."""
    serial.says(b"a" + question + b"b")
    with serial.view() as viewer:
        assert shown(viewer) == b"ab"
        serial.says(question)
        assert shown(viewer) == question


@pytest.mark.parametrize(
    "kept", [b"\x1b[1;31m", b"\x1b[H\x1b[2J", b"\x1b[u", b"\x1b]0;title\x07", "\u00e9\u4e2d".encode(), b"\x1b[?25h"]
)
def test_what_only_draws_is_shown(kept: bytes, serial: Guest) -> None:
    serial.says(kept)
    with serial.view() as viewer:
        assert shown(viewer) == kept


def test_each_viewer_has_all_of_it_and_counts_the_others(serial: Guest) -> None:
    with serial.view() as one, serial.view() as two:
        assert (one.others, two.others) == (0, 1)
        serial.says(b"hello")
        assert shown(one) == shown(two) == b"hello"
        one.input(b"1")
        two.input(b"2")
        assert serial.heard() == b"12"
    with serial.view() as again:
        assert again.others == 0


def test_a_guest_that_does_not_read_blocks_nobody(serial: Guest) -> None:
    with serial.view() as viewer:
        for _ in range(40):
            viewer.input(b"x" * (UNSENT // 20))
        serial.says(b"still here")
        assert shown(viewer) == b"still here"
        got = 0
        while more := serial.heard():
            got += len(more)
            viewer.pump()
        assert UNSENT <= got < UNSENT + 2**17


def test_a_log_that_is_emptied_is_followed_from_its_beginning(serial: Guest) -> None:
    serial.says(b"a long story\n")
    with serial.view() as viewer:
        shown(viewer)
        os.truncate(serial.log, 0)
        serial.says(b"again")
        assert shown(viewer) == b"again"


def test_a_stopped_vm_has_none(serial: Guest, host: FakeHost) -> None:
    host.die()
    with pytest.raises(ConflictError, match="web is stopped") as caught:
        serial.view()
    assert "v start web" in caught.value.hint


def test_a_broken_vm_has_none(layout: Layout) -> None:
    put_broken(layout, uuid_of("bad"), name="bad")
    node = Node(layout.paths)
    with pytest.raises(ConflictError):
        Console(node, node.store.find("bad"))


def test_one_that_cannot_be_opened_is_told_and_nothing_stays_open(guest: Guest) -> None:
    before = open_descriptors()
    with pytest.raises(ConflictError, match=r"console\.in is missing"):
        guest.view()
    os.mkfifo(guest.run / "console.in")
    with pytest.raises(HostError, match="cannot open the console of web"):
        guest.view()  # no log
    guest.log.write_text("")
    with pytest.raises(HostError, match="cannot open the console of web"):
        guest.view()  # nobody reads it
    shutil.rmtree(guest.run)
    with pytest.raises(ConflictError):
        guest.view()
    assert open_descriptors() == before


def test_it_ends_with_the_vm_once_all_is_shown(serial: Guest, host: FakeHost) -> None:
    before = open_descriptors()
    with serial.view() as viewer:
        assert not viewer.ended
        serial.says(b"Power down.")
        serial.close()
        host.die()
        assert viewer.ended
        viewer.input(b"too late")
        assert shown(viewer) == b"Power down."
    assert open_descriptors() == before - 2  # the VM's own


def test_it_ends_with_the_run_of_the_vm(serial: Guest) -> None:
    with serial.view() as viewer:
        serial.node.place(WEB).launch.write_text(replace(LAUNCH, token="another").json())
        assert viewer.ended
        serial.node.place(WEB).launch.unlink()  # as where it is edited by hand
        assert not viewer.ended


def test_what_a_pty_says_comes_to_every_viewer_once_and_in_order(pty: Guest) -> None:
    text = b"".join(b"%d\n" % number for number in range(1, 20000))
    with pty.view() as one, pty.view() as two:
        seen = {one: b"", two: b""}
        said = 0
        deadline = time.monotonic() + 60
        while min(map(len, seen.values())) < len(text):
            assert time.monotonic() < deadline, seen
            with suppress(BlockingIOError):
                said += os.write(pty.side, text[said : said + 5000])
            for viewer in seen:
                viewer.pump()
                seen[viewer] += viewer.output()
        assert list(seen.values()) == [text, text]
    assert pty.kept.read_bytes() == text


def test_viewers_of_a_pty_type_and_the_last_size_counts(pty: Guest) -> None:
    def size() -> tuple[int, ...]:
        return struct.unpack("4H", fcntl.ioctl(pty.side, termios.TIOCGWINSZ, b"\0" * 8))[:2]

    with pty.view() as one, pty.view() as two, pty.view(typing=False) as looking:
        one.resize(33, 101)
        two.resize(40, 120)
        looking.resize(1, 1)
        assert size() == (40, 120)
        for viewer in (one, two, looking):
            viewer.input(b"abc")
        assert heard(pty, b"abcabc")
        assert (one.sized, looking.sized) == (True, True)


def test_who_is_gone_or_does_nothing_leaves_the_pty_to_the_others(pty: Guest) -> None:
    with pty.view() as one, pty.view() as idle:
        gone = pty.view()
        pty.says(b"first ")
        gone._opened.close()  # as kill -9 does it: nothing is read any more
        assert shown(one, b"first ") == b"first "
        pty.says(b"second")
        assert shown(one, b"second") == b"second"
        pty.says(b" third")
        assert shown(idle, b" third") == b"first second third"


def test_leaving_loses_nothing_that_was_said(pty: Guest) -> None:
    viewer = pty.view()
    pty.says(b"last words")
    assert select.select(viewer.filenos(), [], [], 60)[0]
    viewer.close()
    with pty.view() as next_one:
        assert shown(next_one) == b"last words"


def test_who_is_stopped_while_reading_is_named_in_the_end(pty: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    with pty.view() as viewer, pty.kept.open() as other:
        assert len(viewer.filenos()) == 1
        fcntl.flock(other, fcntl.LOCK_EX)
        pty.says(b"hello")
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now)
        viewer.pump()
        assert viewer.output() == b""
        assert viewer.filenos() == []  # or it would not sleep
        now += PATIENCE
        viewer.pump()
        now += 1
        with pytest.raises(ConflictError, match="was stopped while it was reading") as caught:
            viewer.pump()
        assert f"kill -CONT {os.getpid()}" in told(caught.value)
        fcntl.flock(other, fcntl.LOCK_UN)
        monkeypatch.undo()
        assert len(viewer.filenos()) == 0
        assert shown(viewer, b"hello") == b"hello"
        assert len(viewer.filenos()) == 1


def test_a_reboot_gives_another_pty_which_is_told_the_size(pty: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    with pty.view() as viewer:
        viewer.resize(33, 101)
        pty.says(b"before ")
        assert shown(viewer, b"before ") == b"before "
        pty.terminals = []
        pty.close()
        viewer.pump()
        viewer.pump()
        viewer.input(b"x")
        assert viewer.filenos() == []
        assert not viewer.ended
        pty.pty()
        viewer.pump()  # asked a moment ago, and not again at once
        assert viewer.filenos() == []
        later = time.monotonic() + 2
        monkeypatch.setattr(time, "monotonic", lambda: later)
        viewer.pump()
        assert len(viewer.filenos()) == 1
        assert struct.unpack("4H", fcntl.ioctl(pty.side, termios.TIOCGWINSZ, b"\0" * 8))[:2] == (33, 101)
        monkeypatch.undo()
        assert heard(pty, b"x")
        pty.says(b"after")
        assert shown(viewer, b"after") == b"after"
    assert pty.kept.read_bytes() == b"before after"


def test_a_terminal_that_is_no_more_the_guests_is_let_alone(pty: Guest) -> None:
    side, slave = os.openpty()
    pty.terminals = [Terminal(Path(os.ttyname(slave)), "pty"), *pty.terminals]
    with pty.view() as viewer:
        viewer.resize(9, 9)
        viewer.input(b"secret")
        viewer.pump()
        assert not select.select([side], [], [], 0.05)[0]
    os.close(side)
    os.close(slave)


def test_only_the_first_viewer_cuts_what_was_kept(pty: Guest) -> None:
    line = b"0123456789\n"
    pty.kept.write_bytes(line * KEPT)
    with pty.view() as viewer:
        cut = pty.kept.stat().st_size
        assert KEPT - len(line) < cut <= KEPT
        assert shown(viewer) == line * (SCROLLBACK // len(line))
        with pty.kept.open("ab") as file:
            file.write(line * KEPT)
        with pty.view():
            assert pty.kept.stat().st_size == cut + len(line) * KEPT
    with pty.view():
        assert pty.kept.stat().st_size == cut


def test_before_anything_was_kept_the_console_log_is_shown(pty: Guest) -> None:
    with pty.view() as viewer:
        assert shown(viewer) == b""
    pty.log.write_text("booting\n")
    with pty.view() as viewer:
        assert shown(viewer) == b"booting\n"
        pty.says(b"login: ")
        assert shown(viewer, b"login: ") == b"login: "


def test_a_full_disk_is_told(pty: Guest) -> None:
    with pty.view() as viewer:
        full = os.open("/dev/full", os.O_RDWR)
        os.dup2(full, viewer._log)
        os.close(full)
        pty.says(b"lost")
        assert select.select(viewer.filenos(), [], [], 60)[0]
        with pytest.raises(HostError, match="cannot keep what the guest says"):
            viewer.pump()


def test_nothing_stays_open_of_a_pty(pty: Guest) -> None:
    before = open_descriptors()
    with pty.view():
        assert open_descriptors() > before
    assert open_descriptors() == before
