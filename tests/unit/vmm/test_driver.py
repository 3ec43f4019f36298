from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from virshle.errors import ConfigError
from virshle.vmm.choose import choose_driver, driver_of
from virshle.vmm.driver import Launch, launch_file, read_launch
from virshle.vmm.qemu import Qemu

LAUNCH = Launch(
    hypervisor="qemu",
    program="/usr/bin/qemu",
    version="7.2",
    accelerator="tcg",
    why="no kvm",
    ssh_port=22001,
    started="2024-05-06T00:00:00+00:00",
    token="t0k3n",
)


def test_a_launch_is_read_as_it_was_written(tmp_path: Path) -> None:
    launch_file(tmp_path).write_text(LAUNCH.json())
    assert read_launch(tmp_path) == LAUNCH


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "\0", '{"novel": 1}', LAUNCH.json().replace("22001", '"x"')])
def test_without_one_of_ours_there_is_none(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        launch_file(tmp_path).write_text(text)
    assert read_launch(tmp_path) is None


def test_qemu_runs_what_wants_it_and_what_does_not_care() -> None:
    assert isinstance(choose_driver("auto"), Qemu)
    assert isinstance(choose_driver("qemu"), Qemu)


def test_a_hypervisor_that_cannot_be_driven_is_not_replaced_by_another() -> None:
    with pytest.raises(ConfigError, match="cannot drive cloud-hypervisor"):
        choose_driver("cloud-hypervisor")


def test_what_runs_is_driven_by_what_it_runs_on() -> None:
    assert isinstance(driver_of(LAUNCH), Qemu)
    assert isinstance(driver_of(None), Qemu)
    assert isinstance(driver_of(replace(LAUNCH, hypervisor="of a newer virshle")), Qemu)


def test_a_launch_of_another_kind_is_none(tmp_path: Path) -> None:
    data = json.loads(LAUNCH.json())
    del data["token"]
    launch_file(tmp_path).write_text(json.dumps(data))
    assert read_launch(tmp_path) is None
