"""kill -9 of `v` before and after each step of create, start, stop and delete: nothing lost, nothing left."""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path

import pytest

from tests.host.host import Host, V

MOMENTS = ("before", "after")


def steps_of(host: Host, *words: str) -> int:
    """How many steps that command makes here, counted by making them."""
    done, steps = host.driven("none", "before", 0, *words, code=0)
    assert steps, done.stderr
    return len(steps)


def one_image(host: Host) -> None:
    """A template whose disk is a small plain file: its guest need not run."""
    image = host.folder / "image.raw"
    with image.open("wb") as file:
        file.write(b"\x55" * 2**20)
        file.truncate(2**24)
    host.configure(
        f'[[template.vm]]\nname = "plain"\nvram = "64MiB"\n[[template.vm.disk]]\nname = "os"\npath = "{image}"\n'
        '[[template.vm.net]]\nname = "main"\ntype = "user"\n'
    )


@pytest.mark.heart
def test_create(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "first")  # makes the folders and the key
    create = ("create", "-t", "plain", "web", "-n", "2")
    count = steps_of(bare, *create)
    bare.v("delete", "web-1", "web-2", "--yes")
    assert count >= 14
    for moment, number in itertools.product(MOMENTS, range(1, count + 1)):
        done, _ = bare.driven("kill", moment, number, *create)
        assert done.returncode == -9, (moment, number, done.stderr)
        there = [row["name"] for row in bare.ls()]
        assert "first" in there
        assert all(row["state"] == "stopped" for row in bare.ls()), (moment, number)
        # The next command cleans; a name that is not there is free.
        for name in ("web-1", "web-2"):
            bare.v("create", "-t", "plain", name, code=5 if name in there else 0)
        bare.check()
        bare.v("delete", "web-1", "web-2", "--yes")
        bare.check()


def test_the_very_first_create(bare: Host) -> None:
    """With no folder and no key yet."""
    one_image(bare)
    create = ("create", "-t", "plain", "web")
    for moment in MOMENTS:
        number = 0
        while True:
            number += 1
            fresh = Host(bare.folder / f"{moment}{number}", dict(bare.env))
            fresh.folder.mkdir()
            done, _ = fresh.driven("kill", moment, number, *create)
            if done.returncode == 0:
                break
            assert done.returncode == -9
            there = bool(fresh.ls())
            fresh.v(*create, code=5 if there else 0)
            fresh.check()
        assert number > 10


@pytest.mark.heart
def test_delete(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.v("create", "-t", "plain", "other")
    count = steps_of(bare, "delete", "web")
    assert count >= 4
    for moment, number in itertools.product(MOMENTS, range(1, count + 1)):
        bare.v("create", "-t", "plain", "web")
        assert bare.driven("kill", moment, number, "delete", "web")[0].returncode == -9
        there = {row["name"]: row["state"] for row in bare.ls()}
        assert there in ({"web": "stopped", "other": "stopped"}, {"other": "stopped"})
        if "web" in there:
            bare.v("delete", "web")
        else:
            bare.v("create", "-t", "plain", "again")
            bare.v("delete", "again")
        bare.check()


@pytest.mark.parametrize("moment", [pytest.param("before", marks=pytest.mark.heart), "after"])
def test_start(bare: Host, moment: str) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    # The first start makes what all later ones find.
    bare.v("start", "web")
    bare.v("stop", "--force", "--timeout", "0", "web")
    count = steps_of(bare, "start", "web")
    assert count >= 8
    bare.v("stop", "--force", "--timeout", "0", "web")
    for number in range(1, count + 1):
        assert bare.driven("kill", moment, number, "start", "web")[0].returncode == -9
        assert len(bare.vmms()) <= 1
        assert bare.ls()[0]["state"] in ("stopped", "running", "unknown")
        bare.v("start", "web")
        assert bare.ls()[0]["state"] == "running"
        bare.check()
        bare.v("stop", "--force", "--timeout", "0", "web")
        bare.check()


@pytest.mark.heart
def test_stop(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    stop = ("stop", "--force", "--timeout", "0", "web")
    bare.v("start", "web")
    count = steps_of(bare, *stop)
    for moment, number in itertools.product(MOMENTS, range(1, count + 1)):
        bare.v("start", "web")
        bare.driven("kill", moment, number, *stop)
        bare.v(*stop)
        assert bare.ls()[0]["state"] == "stopped"
        bare.check()


@pytest.mark.heart
def test_in_the_middle_of_a_copy(bare: Host) -> None:
    """The copy goes on without its `v`, holding the lock: it is not pulled from under it, and cleaned once it ends."""
    image = bare.folder / "big.raw"
    with image.open("wb") as file:
        for _ in range(600):
            file.write(b"\xaa" * 2**20)
    bare.configure(
        f'[[template.vm]]\nname = "big"\n[[template.vm.disk]]\nname = "os"\npath = "{image}"\n[[template.vm]]\n'
        f'name = "small"\n[[template.vm.disk]]\nname = "os"\npath = "{small(bare)}"\n'
    )
    creator = subprocess.Popen(
        [str(V), "create", "-t", "big", "web"], env=bare.environment(), stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not any(disk.stat().st_size for disk in bare.state.glob("vm/.new-*/disk/os")):
        assert time.monotonic() < deadline
        assert creator.poll() is None
        time.sleep(0.005)
    creator.kill()
    creator.wait()
    (staged,) = bare.state.glob("vm/.new-*")
    if copying(staged):
        bare.v("create", "-t", "small", "meanwhile")
        assert not copying(staged) or staged.exists(), "pulled from under the copy"
    while copying(staged):
        time.sleep(0.05)
    bare.v("create", "-t", "small", "web")
    assert {row["name"] for row in bare.ls()} >= {"web"}
    bare.check()


def small(host: Host) -> Path:
    path = host.folder / "small.raw"
    path.write_bytes(b"\x55" * 2**20)
    return path


def copying(staged: Path) -> bool:
    """Whether an orphaned cp still writes there."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(staged).encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False
