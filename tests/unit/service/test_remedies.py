"""Whatever is wrong of a VM that runs: no remedy, pasted into a shell, cuts its power or takes its disk."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.service.test_check import QEMU, Scene
from tests.unit.service.test_check import scene as scene
from tests.unit.service.test_check_runs import units as units
from tests.unit.support import uuid_of
from virshle.errors import ConflictError, HostError, NotFoundError
from virshle.service.check import check
from virshle.service.create import Order, create
from virshle.service.lifecycle import delete
from virshle.store.layout import definition

_HARM = re.compile(r"\b(p?kill|rm|rmdir|truncate|dd)\b|systemctl (stop|kill|restart)|--force")


def _rename(name: str) -> Callable[[Scene], object]:
    def make(scene: Scene) -> Path:
        folder = scene.place("web").folder
        return folder.rename(folder.with_name(name.format(uuid=folder.name)))

    return make


def _away(scene: Scene) -> None:
    scene.place("web").folder.rename(scene.layout.paths.config.parent / "away")


def _renamed_and_broken(scene: Scene) -> None:
    definition(_rename("web")(scene)).write_text("{")  # type: ignore[arg-type]


def _under_another_uuid(scene: Scene) -> None:
    _rename(str(uuid_of("another")))(scene)


def _removed(scene: Scene) -> None:
    shutil.rmtree(scene.place("web").folder)


def _sockets(name: str) -> Callable[[Scene], object]:
    def make(scene: Scene) -> None:
        run = scene.place("web").run
        run.rename(run.with_name(name.format(run=run.name)))

    return make


def _no_sockets(scene: Scene) -> None:
    shutil.rmtree(scene.place("web").run)


def _no_launch(scene: Scene) -> None:
    scene.place("web").launch.unlink()


def _no_pid(scene: Scene) -> None:
    scene.place("web").record.write_text("")


def _broken(scene: Scene) -> None:
    definition(scene.place("web").folder).write_text("{")


def _linked(scene: Scene) -> None:
    folder = scene.place("web").folder
    folder.symlink_to(folder.rename(scene.layout.paths.config.parent / "elsewhere"))


def _lock(scene: Scene) -> None:
    scene.locked(scene.place("web").folder)


def _everybodys_lock(scene: Scene) -> None:
    scene.locked(scene.layout.vms)


def _second(scene: Scene) -> None:
    scene.runs(2**30, QEMU, f"path={scene.place('web').run}/x.sock")


def _of_a_stopped_one(scene: Scene) -> None:
    scene.runs(2**30, QEMU, f"path={scene.place('mail').run}/x.sock")


def _of_none(scene: Scene) -> None:
    scene.runs(2**30, QEMU, f"file={scene.layout.vm(uuid_of('gone'))}/disk/os")
    scene.layout.run(uuid_of("gone")).mkdir()
    scene.layout.name("gone").symlink_to(f"../vm/{uuid_of('gone')}")


def _by_hand(scene: Scene) -> None:
    scene.runs(2**30, QEMU, f"path={scene.layout.run(uuid_of('gone'))}/qmp.sock")
    scene.layout.run(uuid_of("gone")).mkdir()
    (scene.layout.run(uuid_of("gone")) / "qmp.sock").touch()


def _no_disk(scene: Scene) -> None:
    (scene.place("web").folder / "disk/os").unlink()


def _short_disk(scene: Scene) -> None:
    os.truncate(scene.place("web").folder / "disk/os", 512)


def _one_disk_for_two(scene: Scene) -> None:
    disk = scene.place("web").folder / "disk/os"
    disk.unlink()
    disk.hardlink_to(scene.place("db").folder / "disk/os")


_SITUATIONS: dict[str, Callable[[Scene], object]] = {
    "its folder has another name": _rename("{uuid}.bak"),
    "its folder has its name": _rename("web"),
    "its folder is elsewhere": _away,
    "its folder is renamed, and broken": _renamed_and_broken,
    "its folder has another's uuid": _under_another_uuid,
    "its folder was removed": _removed,
    "its folder is a link": _linked,
    "its runtime folder has another name": _sockets("{run}.bak"),
    "its runtime folder has a name that says nothing": _sockets("old"),
    "its runtime folder was removed": _no_sockets,
    "launch.json is lost": _no_launch,
    "its record is empty": _no_pid,
    "vm.json is broken": _broken,
    "it holds its lock": _lock,
    "it holds everybody's lock": _everybodys_lock,
    "it has two VMMs": _second,
    "a VMM of a stopped VM": _of_a_stopped_one,
    "a VMM of no VM": _of_none,
    "a VMM of no VM, made by hand": _by_hand,
    "its disk was removed": _no_disk,
    "its disk was cut short": _short_disk,
    "its disk is another's too": _one_disk_for_two,
}


def _told(scene: Scene) -> list[str]:
    report = check(scene.node)
    return [f"{one.subject}: {one.what}: {one.remedy}" for one in (*report.violations, *report.leftovers)]


@pytest.mark.parametrize("make", _SITUATIONS.values(), ids=_SITUATIONS.keys())
def test_no_remedy_ends_what_runs(make: Callable[[Scene], object], scene: Scene) -> None:
    make(scene)
    told = _told(scene)
    assert told
    assert [line for line in told if _HARM.search(line)] == []


@pytest.mark.parametrize("make", _SITUATIONS.values(), ids=_SITUATIONS.keys())
def test_nor_where_it_is_a_unit(make: Callable[[Scene], object], scene: Scene, units: dict[str, str]) -> None:
    folder = str(scene.place("web").folder)

    def answer(words: tuple[str, ...]) -> str:
        if words[0] == "list-units":
            return units["list-units"]
        return f"{os.getpid()}\n" if "--property=MainPID" in words else f"{folder}\n"

    scene.host.answers["systemctl"] = answer
    make(scene)
    assert [line for line in _told(scene) if _HARM.search(line)] == []


_MOVED = [_rename("{uuid}.bak"), _rename("web"), _away, _renamed_and_broken, _under_another_uuid]


@pytest.mark.parametrize("make", _MOVED[:-2], ids=["another name", "its name", "elsewhere"])
def test_the_line_that_moves_it_back_mends_all(make: Callable[[Scene], object], scene: Scene) -> None:
    make(scene)
    violations = check(scene.node).violations
    assert (len(violations) == 1) == (make is not _away)  # else nothing but what runs tells of it
    remedies = {one.remedy for one in violations}
    (line,) = {remedy[remedy.index("mv -T ") :] for remedy in remedies}
    _, _, there, back = shlex.split(line)
    Path(there).rename(back)
    assert check(scene.node).violations == check(scene.node).leftovers == []


@pytest.mark.parametrize("make", _MOVED)
def test_nor_are_its_name_and_number_given_away(make: Callable[[Scene], object], scene: Scene) -> None:
    number = scene.node.store.find("web").whole().id
    make(scene)
    with pytest.raises(ConflictError, match="'web' is the name of a VM"):
        create(scene.node, Order("t", "web"))
    (other,) = create(scene.node, Order("t", "other"))
    assert other.id != number
    assert scene.layout.name("web").is_symlink()


def test_one_that_does_not_run_keeps_them_too(scene: Scene) -> None:
    folder, home = scene.layout.vms / "db.bak", scene.place("db").folder
    home.rename(folder)
    delete(scene.node, scene.node.store.find("mail"))
    with pytest.raises(ConflictError, match="'db' is the name of a VM whose folder was renamed") as caught:
        create(scene.node, Order("t", "db"))
    assert f"mv -T {folder} {home}" in caught.value.hint
    with pytest.raises(NotFoundError, match="the folder of db was renamed") as missed:
        scene.node.store.find("db")
    assert missed.value.hint == f"move it back: mv -T {folder} {home}"


def test_one_whose_folder_went_with_all_in_it_is_nobodys(scene: Scene) -> None:
    shutil.rmtree(scene.place("db").folder)
    assert [vm.name for vm in create(scene.node, Order("t", "db"))] == ["db"]


def test_what_runs_no_guest_is_told_to_be_ended(scene: Scene) -> None:
    """Of a VM that does not run either."""
    scene.runs(2**30, "passt", "--socket", scene.place("mail").run / "net0.sock")
    assert [one.remedy for one in check(scene.node).violations] == [f"kill {2**30}"]


@pytest.mark.parametrize("name", ["$(touch x)", "disk.raw"])
def test_another_file_where_a_record_would_be_tells_of_no_folder(
    name: str, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a VMM that was started by hand: nobody is told to move what is around that file, nor to paste its name."""
    file = tmp_path / name
    file.touch()
    for record in (file, Path("/gone") / name):
        monkeypatch.setattr("virshle.service.lost.held_record", lambda pid, at=record: (at, file.stat()))
        _of_none(scene) if record is file else None
        told = _told(scene)
        assert any("its guest down from inside" in line for line in told)
        assert [line for line in told if name in line or "mv -T" in line] == []


def test_what_is_of_another_state_folder_is_not_judged(scene: Scene) -> None:
    """Two can share one runtime folder, and a VM's command line need not name its state folder."""
    run = scene.place("web").run.name
    other = scene.layout.paths.state.with_name("other")
    scene.layout.paths.state.rename(other)
    for folder in scene.layout.folders():
        folder.mkdir(parents=True)
    started = scene.host.started[-1]
    words = tuple(word.replace(str(scene.layout.paths.state), "/other") for word in started.argv)
    scene.host.started[-1] = replace(started, argv=words)
    assert [line for line in _told(scene) if "process" in line or run in line] == []


def test_a_systemd_that_does_not_answer_hides_nothing_else(scene: Scene, units: dict[str, str]) -> None:
    def fail(words: tuple[str, ...]) -> str:
        raise HostError("systemd is away", hint="wait for it")

    scene.host.answers["systemctl"] = fail
    _no_launch(scene)
    assert {one.subject for one in check(scene.node).violations} == {"VM web", "units of systemd"}
