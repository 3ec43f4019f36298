"""A fast check of a vm.json that virshle wrote. It does not import pydantic, because that import takes more time than
to list a thousand VMs. A vm.json that passes here is valid by the schema (`virshle.model.vm`). A vm.json that does not
pass may still be valid."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from uuid import UUID

from virshle.model.names import check_file_name, check_name
from virshle.model.units import LARGEST
from virshle.model.version import LARGEST_ID, LONGEST_CLOUD_CONFIG, MOST_VCPUS, VERSION

_KEYS = frozenset(
    "version uuid id name template created vcpu memory hypervisor boot disks nets origin ready login account "
    "authorized_keys users cloud_config".split()
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", re.ASCII)
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_USER = re.compile(r"[a-z]{1,32}")
_KEY = re.compile(r"(ssh|ecdsa|sk)-[^\x00-\x1f\x7f]{1,8192}")
_ODD = re.compile(rb"\\u(?:0000|d)", re.IGNORECASE)
"""NUL, which cannot be in a path or an argument, and halves of surrogate pairs, which cannot be printed."""


def check_ours(text: bytes, data: dict[str, Any], uuid: UUID) -> None:
    """Raises ValueError, KeyError, TypeError or AttributeError if virshle did not write this text for that VM."""
    text.decode()
    _need(_ODD.search(text) is None)
    _need(data.keys() == _KEYS and data["version"] == VERSION and data["uuid"] == str(uuid))
    check_name(data["name"])
    for number, most in ((data["id"], LARGEST_ID), (data["vcpu"], MOST_VCPUS), (data["memory"], LARGEST)):
        _need(type(number) is int and 0 < number <= most)
    _need(_TIME.fullmatch(data["created"]) is not None)
    datetime.fromisoformat(data["created"])
    _texts(data["template"])
    _need(data["hypervisor"] in ("auto", "cloud-hypervisor", "qemu") and data["ready"] in ("guest", "ssh"))
    _need(_USER.fullmatch(data["login"]) is not None)
    _need(data["account"] is None or _UUID.fullmatch(data["account"]) is not None)
    _need(type(data["disks"]) is list and data["disks"] != [] and type(data["nets"]) is list)
    for disk in data["disks"]:
        _disk(**disk)
    for net in data["nets"]:
        _net(**net)
    (_kernel if data["boot"]["kind"] == "kernel" else _firmware)(**data["boot"])
    _origin(**data["origin"])
    _keys(data["authorized_keys"])
    own = data["cloud_config"]
    _need(own is None or (type(own) is str and len(own) <= LONGEST_CLOUD_CONFIG))
    _need(type(data["users"]) is list)
    for user in data["users"]:
        _user(**user)


def _need(true: bool) -> None:
    if not true:
        raise ValueError


def _texts(*texts: object) -> None:
    for text in texts:
        _need(type(text) is str)


def _maybe(*texts: object) -> None:
    for text in texts:
        _need(text is None or type(text) is str)


def _disk(name: str, file: str, size: int, readonly: bool, source: str | None = None) -> None:
    _need(file == f"disk/{check_file_name(name)}" and type(size) is int and 0 < size <= LARGEST)
    _need(type(readonly) is bool)
    _maybe(source)


def _net(name: str, type: str, mac: str) -> None:
    check_file_name(name)
    _need(type == "user" and _MAC.fullmatch(mac) is not None)


def _kernel(kind: str, kernel: str, initrd: str, cmdline: str) -> None:
    for file in (kernel, initrd):
        _need(file == f"boot/{check_file_name(file[5:])}")
    _texts(cmdline)
    _need("\n" not in cmdline)


def _firmware(kind: str, variables: str, firmware: str | None = None) -> None:
    _need(kind == "firmware" and variables == f"boot/{check_file_name(variables[5:])}")
    _maybe(firmware)


def _origin(
    source: str,
    image: str | None = None,
    store_path: str | None = None,
    pin: dict[str, Any] | None = None,
    derivation: str | None = None,
) -> None:
    _texts(source)
    _maybe(image, store_path, derivation)
    if pin is not None:
        _pin(**pin)


def _pin(
    flake: str,
    locked: str,
    attribute: str,
    nar_hash: str | None = None,
    revision: str | None = None,
    dirty: bool = False,
) -> None:
    _texts(flake, locked, attribute)
    _maybe(nar_hash, revision)
    _need(type(dirty) is bool)


def _keys(keys: list[str]) -> None:
    _need(type(keys) is list and all(_KEY.fullmatch(key) for key in keys))


def _user(name: str, authorized_keys: list[str]) -> None:
    _need(_USER.fullmatch(name) is not None)
    _keys(authorized_keys)
