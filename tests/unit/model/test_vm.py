from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.support import KEY, make_vm
from virshle.model.vm import FirmwareBoot, User, Vm


def _json(**changes: Any) -> str:
    return json.dumps(json.loads(make_vm().model_dump_json()) | changes)


def _disk(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "os", "file": "disk/os", "size": 1} | changes]


def test_a_definition_survives_being_written_and_read() -> None:
    vm = make_vm(users=[{"name": "ada", "authorized_keys": [KEY]}], boot={"kind": "firmware", "variables": "boot/v"})
    assert Vm.model_validate_json(vm.model_dump_json()) == vm
    assert isinstance(vm.boot, FirmwareBoot)


def test_a_definition_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_vm().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 4},
        {"version": "1.0"},
        {"unheard": 1},
        {"name": "../x"},
        {"name": "7"},
        {"id": 0},
        {"id": -1},
        {"vcpu": 0},
        {"vcpu": 1025},
        {"vcpu": "two"},
        {"memory": 0},
        {"disks": []},
        {"disks": _disk(more=1)},
        {"disks": _disk(size=0)},
        {"disks": _disk(name="a/b")},
        {"disks": _disk(name="a,b")},
        {"nets": [{"name": "n", "type": "tap", "mac": "02:00:00:00:00:01"}]},
        {"nets": [{"name": "n", "type": "user", "mac": "02:00:00:00:00:01,x"}]},
        {"nets": [{"name": "n", "type": "user", "mac": "02:00:00:00:00:01\n"}]},
        {"boot": {"kind": "magic"}},
        {"boot": {"kind": "kernel", "kernel": "k", "initrd": "i"}},
        {"hypervisor": "xen"},
        {"ready": "maybe"},
        {"account": "me"},
        {"authorized_keys": ["AAAA"]},
        {"authorized_keys": [f"{KEY}\nssh-rsa other"]},
        {"users": [{"name": "Ada Lovelace"}]},
        {"users": [{"name": "ada\n"}]},
    ],
)
def test_what_is_no_definition_is_refused(changes: dict[str, Any]) -> None:
    Vm.model_validate_json(_json())
    with pytest.raises(ValidationError):
        Vm.model_validate_json(_json(**changes))


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/disk/os", "disk/../../x", "..", "", ".", "a\0b"])
def test_no_file_of_a_vm_lies_outside_of_its_folder(path: str) -> None:
    kernel = {"kind": "kernel", "kernel": "boot/k", "initrd": "boot/i", "cmdline": ""}
    for changes in (
        {"disks": _disk(file=path)},
        {"boot": kernel | {"kernel": path}},
        {"boot": kernel | {"initrd": path}},
        {"boot": {"kind": "firmware", "variables": path}},
    ):
        with pytest.raises(ValidationError, match="leaves the VM's folder"):
            Vm.model_validate_json(_json(**changes))


@pytest.mark.parametrize("login", ["-oProxyCommand=touch /tmp/owned", "a b", "", "root\n"])
def test_the_login_is_a_user_name(login: str) -> None:
    with pytest.raises(ValidationError):
        make_vm(login=login)


@pytest.mark.parametrize("name", ["root", "_apt", "a-b_c9", "x" * 32])
def test_names_of_users_are_those_of_linux(name: str) -> None:
    assert User(name=name).name == name


@pytest.mark.parametrize("key", ["ssh-rsa A", "ecdsa-sha2-nistp256 A c", "sk-ssh-ed25519@openssh.com A c d"])
def test_public_keys_of_every_kind_are_accepted(key: str) -> None:
    assert make_vm(authorized_keys=[key]).authorized_keys == (key,)
