from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from virshle.vmm.choose import driver_of
from virshle.vmm.cloud_hypervisor import CloudHypervisor
from virshle.vmm.driver import Launch, Place, read_launch
from virshle.vmm.qemu import Qemu

LAUNCH = Launch(
    hypervisor="qemu",
    program="/usr/bin/qemu",
    version="7.2",
    accelerator="tcg",
    why="no kvm",
    name="web",
    ssh_port=22001,
    started="2024-05-06T00:00:00+00:00",
    token="t0k3n",
    unit=None,
    user=None,
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "run").mkdir()
    return Place(tmp_path, tmp_path / "run")


def test_a_launch_is_read_as_it_was_written(place: Place) -> None:
    launch = replace(LAUNCH, cid=7, firmware="/fw", unit="u", user="virshle-vmm", instead="no KVM")
    place.launch.write_text(launch.json())
    assert read_launch(place) == launch


def _changed(**changes: object) -> str:
    return json.dumps({**json.loads(LAUNCH.json()), **changes})


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        "[]",
        "7",
        "\0",
        "[" * 100_000,
        '{"novel": 1}',
        _changed(ssh_port="x"),
        _changed(cid="x"),
        LAUNCH.json()[:-9],
    ],
)
def test_without_one_of_ours_there_is_none(text: str | None, place: Place) -> None:
    if text is not None:
        place.launch.write_text(text)
    assert read_launch(place) is None


@pytest.mark.parametrize("key", ["token", "name", "hypervisor", "unit"])
def test_a_launch_of_another_kind_is_none(key: str, place: Place) -> None:
    data = json.loads(LAUNCH.json())
    del data[key]
    place.launch.write_text(json.dumps(data))
    assert read_launch(place) is None


def test_what_a_newer_virshle_notes_beside_is_passed_over(place: Place) -> None:
    place.launch.write_text(_changed(novel={"a": 1}))
    assert read_launch(place) == LAUNCH


def test_what_runs_is_driven_by_what_it_runs_on(place: Place) -> None:
    assert isinstance(driver_of(LAUNCH, place), Qemu)
    assert isinstance(driver_of(replace(LAUNCH, hypervisor="cloud-hypervisor"), place), CloudHypervisor)


@pytest.mark.parametrize("launch", [None, replace(LAUNCH, hypervisor="of a newer virshle")])
def test_where_that_is_not_known_its_sockets_tell(launch: Launch | None, place: Place) -> None:
    assert isinstance(driver_of(launch, place), Qemu)
    (place.run / "ch.sock").touch()
    assert isinstance(driver_of(launch, place), CloudHypervisor)
