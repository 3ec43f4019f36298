"""What a VMM, or whoever runs as one, may leave or answer."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.hostile import FEW, FILES, VALUES, changed, json_values, paths_in
from tests.unit.support import make_vm, put_vm, uuid_of
from tests.unit.vmm.test_driver import LAUNCH
from virshle.errors import ConflictError, VirshleError
from virshle.exec.process import recorded, running
from virshle.rpc import Http, qmp, unix
from virshle.service.node import Node
from virshle.service.show import details, rows
from virshle.store import Layout
from virshle.vmm import cloud_hypervisor
from virshle.vmm.choose import driver_of
from virshle.vmm.cloud_hypervisor import CloudHypervisor
from virshle.vmm.driver import Place, read_launch

DATA = json.loads(LAUNCH.json())
PLACES = paths_in(DATA)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("vm")
    (folder / "run").mkdir()
    (folder / "log").mkdir()
    return Place(folder, folder / "run")


def _read(place: Place, text: str) -> None:
    place.launch.write_text(text)
    launch = read_launch(place)
    driver = driver_of(launch, place)
    driver.state(place, launch)
    if launch is not None:
        driver.ended_well(place, launch)
        assert cloud_hypervisor.events(place, launch).parent == place.logs
        assert launch.ssh_port is None or 0 < launch.ssh_port < 2**16


@pytest.mark.parametrize("where", PLACES, ids=lambda where: ".".join(where) or "all")
def test_no_value_of_a_launch_is_more_than_none_of_ours(where: tuple[str, ...], place: Place) -> None:
    for value in VALUES:
        _read(place, json.dumps(changed(DATA, where, value)))


@given(where=st.sampled_from(PLACES), value=json_values)
def test_nor_is_any_other(where: tuple[str, ...], value: Any, place: Place) -> None:
    _read(place, json.dumps(changed(DATA, where, value)))


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
def test_whatever_is_in_its_place_it_is_none(make: Any, tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path / "run")
    make(place.launch)
    assert read_launch(place) is None


def test_a_link_to_anothers_launch_is_none(tmp_path: Path) -> None:
    (tmp_path / "other").write_text(LAUNCH.json())
    place = Place(tmp_path, tmp_path / "run")
    place.launch.symlink_to("other")
    assert read_launch(place) is None


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize("name", ["vmm.pid", "launch.json", "log/vmm.log", "log/web.events.json", "log/console.log"])
def test_the_list_and_the_details_are_shown(name: str, make: Any, layout: Layout) -> None:
    folder = put_vm(layout, make_vm())
    node = Node(layout.paths)
    (folder / "launch.json").write_text(LAUNCH.json())
    (folder / "vmm.pid").write_text("1 boot t0k3n\n")
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    entry = node.store.find("web")
    assert [row.name for row in rows(node, [entry])] == ["web"]
    assert details(node, entry)["uuid"] == str(uuid_of("web"))


@given(text=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode(errors="replace")))
def test_no_record_is_taken_for_a_process(text: bytes, place: Place) -> None:
    place.record.write_bytes(text)
    assert running(place.record) is None
    found = recorded(place.record)
    assert found is None or not found.this_boot


@pytest.mark.parametrize("pid", ["0", "-1", "1", "9" * 30, "1.0", "٣", "ours"])
def test_no_pid_is_believed_of_who_does_not_hold_the_record(pid: str, tmp_path: Path) -> None:
    record = tmp_path / "vmm.pid"
    record.write_text(f"{os.getpid() if pid == 'ours' else pid} boot token\n")
    with record.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = running(record)
    assert process is not None
    assert process.pid is None


def test_a_folder_that_is_locked_is_a_process_nobody_knows(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        process = running(tmp_path)
    finally:
        os.close(handle)
    assert process is not None
    assert process.pid is None


_EVENT = {"source": "vm", "event": "booted", "properties": None}


@given(parts=st.lists(json_values.map(json.dumps) | st.just(json.dumps(_EVENT, indent=2)) | st.text(), max_size=4))
def test_no_event_is_more_than_passed_over(parts: list[str], place: Place) -> None:
    file = cloud_hypervisor.events(place, LAUNCH)
    file.write_text("\n\n".join(parts).encode(errors="replace").decode())
    assert all(isinstance(word, str) for event in cloud_hypervisor._last_events(file) for word in event)


@FEW
@given(answer=json_values)
def test_no_answer_is_a_console_but_a_terminal_of_the_vmms(answer: Any, place: Place) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for told in (
            answer,
            {"config": answer},
            {"config": {"console": answer}},
            {"config": {"console": {"file": answer}}},
        ):
            patch.setattr(Http, "send", lambda _, told=told: told if isinstance(told, dict) else {})
            with pytest.raises(ConflictError):
                CloudHypervisor().console(place)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/dev/pts/../../etc/passwd", "/dev/tty", "/dev/pts/0\n", "/dev/pts/", "x"]
)
def test_no_other_file_is_written_to_for_a_vmm(path: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Http, "send", lambda _: {"config": {"console": {"file": path}}})
    with pytest.raises(ConflictError, match="no console"):
        CloudHypervisor().console(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED LOUDLY: only root can give a folder away")
def test_nor_the_terminal_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, tmp_path / "run")
    place.run.mkdir()
    ours, theirs = os.openpty()
    try:
        path = os.ttyname(theirs)
        monkeypatch.setattr(Http, "send", lambda _: {"config": {"console": {"file": path}}})
        assert CloudHypervisor().console(place).path == Path(path)
        os.chown(place.run, 1, 1)
        with pytest.raises(ConflictError, match="no console"):
            CloudHypervisor().console(place)
    finally:
        os.close(ours)
        os.close(theirs)


@FEW
@given(said=st.binary() | json_values.map(lambda value: json.dumps(value).encode() + b"\n"))
def test_no_qmp_is_more_than_an_error(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        talk = qmp._Conversation(ours, time.monotonic() + 5)
        with suppress(VirshleError):
            assert "return" in talk.hear("return")


def test_an_endless_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "LARGEST", 2**16)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        sent = theirs.send(b"x" * 2**17)
        assert sent > qmp.LARGEST
        with pytest.raises(VirshleError, match="too much"):
            qmp._Conversation(ours, time.monotonic() + 30).hear("return")


_STATUS = ["HTTP/1.1 200 OK", "HTTP/1.1 500 No", "HTTP/1.1 204 x", "HTTP/9.9 99999 x", "x", "", "HTTP/1.1 -1 x"]
_HEADS = [
    "",
    "Content-Length: -1",
    "Content-Length: 99999999",
    "Content-Length: x",
    "Transfer-Encoding: chunked",
    ": x",
]


@FEW
@given(
    status=st.sampled_from(_STATUS),
    head=st.sampled_from(_HEADS),
    body=st.binary() | json_values.map(lambda value: json.dumps(value).encode()),
)
def test_no_http_is_more_than_an_error(status: str, head: str, body: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.MonkeyPatch.context() as patch:
        theirs.sendall(f"{status}\r\n{head}\r\n\r\n".encode() + body)
        theirs.shutdown(socket.SHUT_WR)

        def connect(connection: unix.UnixConnection) -> None:
            connection.sock = unix._Bounded(fileno=os.dup(ours.fileno()))
            connection.sock.deadline = time.monotonic() + 5

        patch.setattr(unix.UnixConnection, "connect", connect)
        try:
            assert isinstance(Http(Path("/s"), "vm.info", method="GET").send(), dict)
        except VirshleError as error:
            error.message.encode(errors="surrogatepass")
