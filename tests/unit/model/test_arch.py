from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from virshle.errors import ConfigError
from virshle.model.arch import ARCHES, host_arch


@pytest.mark.parametrize(("machine", "qemu"), [("x86_64", "qemu-system-x86_64"), ("aarch64", "qemu-system-aarch64")])
def test_the_host_is_found_in_the_table(machine: str, qemu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    assert host_arch().qemu == qemu
    assert host_arch().name == machine


def test_an_unknown_machine_is_told_which_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="s390x"))
    with pytest.raises(ConfigError, match="x86_64 and aarch64, not on s390x"):
        host_arch()


@pytest.mark.parametrize("arch", ARCHES.values(), ids=ARCHES)
def test_firmware_comes_in_pairs_of_absolute_paths(arch: object) -> None:
    pairs = ARCHES[arch.name].firmware  # type: ignore[attr-defined]
    assert pairs
    assert all(code.startswith("/") and variables.startswith("/") and code != variables for code, variables in pairs)
