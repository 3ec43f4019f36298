from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import CloudGuest
from tests.unit.support import make_vm, put_vm, told, uuid_of
from tests.unit.vmm.test_driver import LAUNCH
from virshle.errors import ConflictError, HostError, TimedOutError
from virshle.plan import AnyOf, Call, Contains, Gone, Greets, GreetsVsock
from virshle.rpc import Listen, Vsock
from virshle.service.create import Order, create
from virshle.service.node import Entry, Node
from virshle.service.ready import listen_steps, ready_wait, wait_ready
from virshle.service.start import start
from virshle.store import Layout
from virshle.vmm.cloud_hypervisor import CloudHypervisor
from virshle.vmm.driver import Launch, Place
from virshle.vmm.qemu import Qemu

pytestmark = pytest.mark.usefixtures("guest")

CLOUD = replace(LAUNCH, hypervisor="cloud-hypervisor", cid=3)


@pytest.fixture
def place(layout: Layout, node: Node) -> Place:
    put_vm(layout, make_vm())
    return node.place(uuid_of("web"))


def _saying(place: Place) -> Contains:
    return Contains(place.ready, "READY=1")


def _ssh(place: Place) -> GreetsVsock:
    return GreetsVsock(Vsock(3, 22, place.run / "vsock"), "SSH-")


@pytest.mark.parametrize(
    ("launch", "listened", "ssh_too"),
    [
        (LAUNCH, True, False),
        (LAUNCH, False, False),  # QEMU writes it down, whoever listens
        (CLOUD, True, False),
        (CLOUD, False, True),  # it may have said so before
        (replace(CLOUD, cid=None), False, False),
    ],
)
def test_a_guest_that_tells_is_believed(
    launch: Launch, listened: bool, ssh_too: bool, place: Place, node: Node
) -> None:
    place.launch.write_text(launch.json())
    step = ready_wait(node, make_vm(ready="guest"), 7, listened=listened)
    assert step.until == (AnyOf((_saying(place), _ssh(place))) if ssh_too else _saying(place))
    assert (step.why, step.timeout) == ("web to say that it is ready", 7)
    assert (step.fatal, step.logs) == (Gone(place.record), (place.console_log,))


@pytest.mark.parametrize("listened", [False, True])
@pytest.mark.parametrize("launch", [LAUNCH, CLOUD], ids=["qemu", "cloud-hypervisor"])
def test_another_is_ready_when_its_ssh_server_answers(launch: Launch, listened: bool, place: Place, node: Node) -> None:
    place.launch.write_text(launch.json())
    step = ready_wait(node, make_vm(ready="ssh"), 7, listened=listened)
    assert step.until == Greets(22001, "SSH-")
    place.launch.write_text(replace(launch, ssh_port=None, cid=3).json())
    path = place.run / "vsock" if launch is CLOUD else None
    step = ready_wait(node, make_vm(ready="ssh"), 7, listened=listened)
    assert step.until == GreetsVsock(Vsock(3, 22, path), "SSH-")
    assert step.why == "web's ssh server to answer"


def test_where_nothing_can_say_so_that_is_told(place: Place, node: Node) -> None:
    place.launch.write_text(replace(LAUNCH, ssh_port=None).json())
    with pytest.raises(ConflictError, match="nothing can say when web is ready") as caught:
        ready_wait(node, make_vm(ready="ssh"), 7, listened=True)
    assert 'ready = "guest"' in caught.value.hint


def test_somebody_listens_where_the_vmm_does_not_write_it_down(place: Place) -> None:
    (step,) = listen_steps(CloudHypervisor(), place)
    assert isinstance(step, Call)
    assert step.request == Listen(place.run / "vsock_9000", place.ready)
    assert listen_steps(Qemu(), place) == []


@pytest.mark.parametrize("listen", [False, True])
def test_who_waits_listens_before_the_guest_runs(
    listen: bool, node: Node, host: FakeHost, cloud: CloudGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[bool] = []

    def send(_: Listen) -> dict[str, object]:
        began.append(not host.started)
        return {}

    monkeypatch.setattr(Listen, "send", send)
    create(node, Order("t", "web"))
    start(node, node.store.find("web"), listen=listen)
    assert began == ([True] if listen else [])


def test_what_is_said_is_not_thrown_away_by_the_start(
    node: Node, host: FakeHost, cloud: CloudGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script removes what an earlier run left, and not what is listened on already."""
    listening: list[Path] = []

    def send(self: Listen) -> dict[str, object]:
        self.socket.touch()
        listening.append(self.socket)
        return {}

    monkeypatch.setattr(Listen, "send", send)
    create(node, Order("t", "web"))
    start(node, node.store.find("web"), listen=True)
    assert [socket.exists() for socket in listening] == [True]


def test_any_of_several_will_do(tmp_path: Path) -> None:
    first, second = Contains(tmp_path / "a", "X"), Contains(tmp_path / "b b", "Y")
    either = AnyOf((first, second))
    assert not either.holds()
    (tmp_path / "b b").write_text("Y\n")
    assert either.holds()
    assert either.shell() == f"{{ {first.shell()} || {second.shell()}; }}"


def test_a_guest_is_ready_when_it_says_so(web: Entry, node: Node, host: FakeHost) -> None:
    vm = web.whole().model_copy(update={"ready": "guest"})
    start(node, web)
    (node.layout.run(vm.uuid) / "ready").write_text("X=1\nREADY=1\n")
    assert wait_ready(node, vm, 30) == "web to say that it is ready"
    assert "grep -qxF READY=1" in (web.folder / "commands.log").read_text()


def test_a_guest_that_ends_is_not_waited_for(web: Entry, node: Node, host: FakeHost) -> None:
    vm = web.whole().model_copy(update={"ready": "guest"})
    start(node, web)
    host.die()
    (web.folder / "log/console.log").write_text("Kernel panic\n")
    with pytest.raises(HostError, match="gave up waiting for web to say") as caught:
        wait_ready(node, vm, 600)
    assert "Kernel panic" in told(caught.value)


def test_a_guest_that_takes_too_long_is_left_running(web: Entry, node: Node, host: FakeHost) -> None:
    vm = web.whole().model_copy(update={"ready": "guest"})
    start(node, web)
    with pytest.raises(TimedOutError):
        wait_ready(node, vm, 0.05)
    assert host.alive
