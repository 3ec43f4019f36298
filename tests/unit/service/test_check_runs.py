"""Each kind of fault of what runs is made by hand, and found."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.unit.service.test_check import QEMU, Scene, _unchanged
from tests.unit.service.test_check import scene as scene
from tests.unit.support import put_broken, record_of, uuid_of
from virshle.exec.table import Listed
from virshle.service.check import Report, check
from virshle.store import Layout
from virshle.vmm import running

UNITS = {"list-units": "virshle-vm-web.service loaded active running VM web\n"}


def _argv(scene: Scene, name: str, program: str = QEMU) -> tuple[str, str]:
    return program, f"path={scene.place(name).run}/x.sock"


def _no_launch(scene: Scene) -> None:
    scene.place("web").launch.unlink()


def _other_launch(scene: Scene) -> None:
    file = scene.place("web").launch
    token = scene.host.started[-1].token
    file.write_text(file.read_text().replace(token, "another"))


def _other_vmm(scene: Scene) -> None:
    file = scene.place("web").launch
    file.write_text(file.read_text().replace('"qemu"', '"cloud-hypervisor"'))


def _no_pid(scene: Scene) -> None:
    scene.place("web").record.write_text("")


def _no_sockets(scene: Scene) -> None:
    scene.place("web").run.rename(scene.layout.paths.state.parent / "gone")


def _of_none(scene: Scene) -> None:
    scene.runs(2**30, QEMU, f"file={scene.layout.vm(uuid_of('gone'))}/disk/os")


def _of_a_stopped_one(scene: Scene) -> None:
    scene.runs(2**30, *_argv(scene, "mail"))


def _a_second(scene: Scene) -> None:
    scene.runs(2**30, *_argv(scene, "web"))


def _passt_of_none(scene: Scene) -> None:
    scene.runs(2**30, "passt", "--socket", scene.layout.run(uuid_of("gone")) / "net0.sock")


def _passt_of_a_stopped_one(scene: Scene) -> None:
    scene.runs(2**30, *_argv(scene, "db", "passt"))


def _script_of_a_stopped_one(scene: Scene) -> None:
    scene.runs(2**30, "/bin/sh", scene.place("mail").script, "run")


def _lock_of_its_vm(scene: Scene) -> None:
    scene.locked(scene.place("web").folder)


def _lock_of_all(scene: Scene) -> None:
    scene.locked(scene.layout.vms)


OWN = f"process {os.getpid()}"
_FAULTS: dict[str, tuple[Callable[[Scene], object], str, str]] = {
    "nothing says how it runs": (_no_launch, "launch.json does not say how", "VM web"),
    "another run's launch.json": (_other_launch, "belongs to another run", "VM web"),
    "another VMM than was chosen": (_other_vmm, "says that cloud-hypervisor runs it", "VM web"),
    "a record that names nobody": (_no_pid, "does not name the process", "VM web"),
    "sockets that are gone": (_no_sockets, "nothing can reach its VMM", "VM web"),
    "a VMM of no VM": (_of_none, "qemu runs for no VM", f"process {2**30}"),
    "a VMM of a stopped VM": (_of_a_stopped_one, "runs for VM mail, which is stopped", f"process {2**30}"),
    "two VMMs": (_a_second, f"runs beside process {os.getpid()}, which runs VM web", f"process {2**30}"),
    "a network of no VM": (_passt_of_none, "passt runs for no VM", f"process {2**30}"),
    "a network of a stopped VM": (_passt_of_a_stopped_one, "runs for VM db, which is stopped", f"process {2**30}"),
    "what waits for a VMM that is gone": (_script_of_a_stopped_one, "vmm.sh runs for VM mail", f"process {2**30}"),
    "a VMM that holds its VM's lock": (_lock_of_its_vm, "qemu holds the lock of ", OWN),
    "a VMM that holds everybody's lock": (_lock_of_all, "qemu holds the lock of ", OWN),
}


@pytest.mark.parametrize(("make", "what", "subject"), _FAULTS.values(), ids=_FAULTS.keys())
def test_a_fault_of_what_runs_is_found(make: Callable[[Scene], object], what: str, subject: str, scene: Scene) -> None:
    make(scene)
    report = _unchanged(scene)
    (one,) = report.violations
    assert (what in one.what, one.subject) == (True, subject)
    assert one.remedy
    assert report.leftovers == []


def test_what_helps_a_vm_that_runs_is_its_own(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.runs(2**30, *_argv(scene, "web", "passt"))
    scene.runs(2**30 + 1, "/bin/sh", scene.place("web").script, "run")
    scene.runs(2**30 + 2, *_argv(scene, "web"))
    monkeypatch.setattr(running, "parent_of", lambda _: os.getpid())  # the VMM's own child
    assert check(scene.node).violations == []


def test_a_vm_that_is_just_becoming_its_vmm_is_well(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Listed(os.getpid(), ("/bin/sh", str(scene.place("web").script), "run"))
    monkeypatch.setattr(running, "processes", lambda: iter([script]))
    assert check(scene.node).violations == []


def test_one_that_is_held_by_no_vmm_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "processes", lambda: iter([]))
    (one,) = check(scene.node).violations
    assert f"process {os.getpid()} is not its VMM" in one.what


def test_one_that_crashed_is_no_fault(scene: Scene) -> None:
    scene.host.die()
    assert check(scene.node) == Report([], [], whole=3, running=0)


def test_a_broken_vm_that_runs_has_its_process(scene: Scene, layout: Layout) -> None:
    folder = put_broken(layout, uuid_of("bad"), name="bad")
    (folder / "vmm.pid").write_text(record_of(2**30))
    scene.runs(2**30, *(QEMU, f"file={folder}/disk/os"))
    subjects = [one.subject for one in check(scene.node).violations]
    assert subjects == ["VM bad", f"process {2**30}"]


@pytest.fixture
def units(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What systemctl says, where web is a unit: by its verb, and by unit."""
    said = dict(UNITS)
    file = scene.place("web").launch
    file.write_text(file.read_text().replace('"unit": null', '"unit": "virshle-vm-web"'))

    def answer(words: tuple[str, ...]) -> str:
        return said.get("list-units" if words[0] == "list-units" else words[-1], "\n")

    scene.host.answers["systemctl"] = answer
    for module in ("virshle.vmm.systemd", "virshle.service.check_runs"):
        monkeypatch.setattr(f"{module}.systemd_runs", lambda: True)
    return said


def test_units_of_vms_are_well(scene: Scene, units: dict[str, str]) -> None:
    units["list-units"] += "virshle-vm-mail.service loaded failed failed VM mail\n"  # kept, so that one may read why
    assert _unchanged(scene) == Report([], [], whole=3, running=1)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("virshle-vm-gone.service loaded failed failed VM gone", "systemctl reset-failed virshle-vm-gone"),
        ("virshle-vm-gone.service loaded active running VM gone", "systemctl stop virshle-vm-gone"),
        ("virshle-vm-mail.service loaded active running VM mail", "systemctl stop virshle-vm-mail"),
    ],
)
def test_a_unit_of_no_vm_is_found(line: str, remedy: str, scene: Scene, units: dict[str, str]) -> None:
    units["list-units"] += line + "\n"
    (one,) = _unchanged(scene).violations
    assert one.remedy == remedy
    assert one.subject == f"unit {line.split()[0].removesuffix('.service')}"
    # It would be ours.
    units[line.split()[0]] = f"{scene.layout.vm(uuid_of('gone'))}\n"
    assert len(check(scene.node).violations) == 1


def test_units_with_another_state_folder_are_theirs(scene: Scene, units: dict[str, str]) -> None:
    for unit in ("virshle-vm-mail.service", "virshle-vm-theirs.service"):
        units["list-units"] += f"{unit} loaded active running VM\n"
        units[unit] = f"/elsewhere/vm/{uuid_of('theirs')}\n"
    assert check(scene.node).violations == []


def test_a_vm_that_left_its_unit_is_found(scene: Scene, units: dict[str, str]) -> None:
    units["list-units"] = ""
    (one,) = check(scene.node).violations
    assert (one.subject, one.what) == ("VM web", "runs outside of its unit virshle-vm-web")
