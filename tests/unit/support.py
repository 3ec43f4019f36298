"""What many unit tests use: a VM, its folder, fakes of a request, a progress, a process record."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, UUID, uuid5

from virshle.errors import VirshleError
from virshle.exec import process
from virshle.model.vm import Vm
from virshle.model.words import NO_WORDS
from virshle.store.layout import Layout, definition, link_target

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMadeUpKeyOfNobody00000000000000000000000000 test@virshle"
OWN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoZSBrZXkgdGhhdCB2aXJzaGxlIG1ha2VzIGhlcmUu virshle"
"""As the faked ssh-keygen makes it."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Escape(BaseException):
    """A unit test tried to start a process or to reach the network. No handler of ours catches it."""


def uuid_of(name: str) -> UUID:
    """Always the same for a name."""
    return uuid5(NAMESPACE_DNS, name)


def make_vm(name: str = "web", number: int = 1, **changes: Any) -> Vm:
    data: dict[str, Any] = {
        "uuid": uuid_of(name),
        "id": number,
        "name": name,
        "template": "tiny",
        "created": "2024-05-06T07:08:09Z",
        "vcpu": 2,
        "memory": 2**29,
        "boot": {"kind": "kernel", "kernel": "boot/kernel", "initrd": "boot/initrd", "cmdline": "console=ttyS0"},
        "disks": [{"name": "os", "file": "disk/os", "size": 2**20}],
        "nets": [{"name": "main", "type": "user", "mac": "02:00:00:00:00:01"}],
        "origin": {"image": "tiny", "source": "built in: tiny"},
        "authorized_keys": [KEY],
    }
    return Vm.model_validate(data | changes)


def put_vm(layout: Layout, vm: Vm, *, links: bool = True) -> Path:
    """The folder of a whole VM, with all its files."""
    folder = layout.vm(vm.uuid)
    for part in ("disk", "boot", "log"):
        (folder / part).mkdir(parents=True)
    for name in [*(disk.file for disk in vm.disks), "boot/kernel", "boot/initrd", "boot/efivars.fd"]:
        (folder / name).write_bytes(b"\0" * 512)
    for disk in vm.disks:
        os.truncate(folder / disk.file, disk.size)
    definition(folder).write_text(vm.model_dump_json())
    if links:
        link(layout.name(vm.name), vm.uuid)
        link(layout.id(vm.id), vm.uuid)
    return folder


def put_broken(layout: Layout, uuid: UUID, text: str = "{", *, name: str = "") -> Path:
    folder = layout.vm(uuid)
    folder.mkdir()
    definition(folder).write_text(text)
    if name:
        link(layout.name(name), uuid)
    return folder


def link(path: Path, uuid: UUID) -> None:
    path.symlink_to(link_target(uuid))


def record_of(pid: int, token: str = "token", boot: str = "") -> str:
    """The record that `vmm.sh run` would have written for it."""
    return f"{pid} {boot or BOOT_ID.read_text().strip()} {token}\n"


class Held:
    """A record that a process holds as a VMM does: by an flock of its own. Raises BlockingIOError where one does.

    A VMM has it as its descriptor 9, which in this process may be anything: the one it is here takes its place.
    """

    def __init__(self, record: Path, text: str | None = None) -> None:
        self.record = record
        self.fd = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self.fd)
            raise
        process._FD = self.fd
        record.write_text(record_of(os.getpid()) if text is None else text)

    def end(self) -> None:
        """The process dies; its record stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def snapshot(folder: Path) -> dict[str, str]:
    """Every path under a folder with what it is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = "folder" if path.is_dir() else "" if path.is_file() else "neither"
        found[str(path.relative_to(folder))] = f"-> {path.readlink()}" if path.is_symlink() else kind or _hex(path)
    return found


def _hex(path: Path) -> str:
    return path.read_bytes().hex()


def open_descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@dataclass
class FakeRequest:
    """A request that notes when it is sent."""

    name: str
    sent: list[str]
    error: BaseException | None = None
    then: Callable[[], object] = lambda: None

    def shell(self) -> str:
        return f"ask {self.name}"

    def send(self) -> Mapping[str, Any]:
        self.sent.append(self.name)
        self.then()
        if self.error is not None:
            raise self.error
        return {}


@dataclass
class FakeProgress:
    told: list[tuple[str, float, float, str, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def update(self, title: str, done: float, total: float, unit: str = "", now: str = "") -> None:
        self.told.append((title, done, total, unit, now))

    def end(self, title: str) -> None:
        self.ended.append(title)


@dataclass
class Condition:
    """Holds from its nth look on."""

    looks: float
    looked: int = 0

    def shell(self) -> str:
        return f"[ {self.looks} ]"

    def holds(self, patience: float = 2) -> bool:
        self.looked += 1
        return self.looked >= self.looks


def told(error: VirshleError) -> str:
    """All that a user would see of an error."""
    return "\n".join([error.message, *error.details, error.hint])


FOREIGN = re.compile(
    r"Input should|should match|should have|Field required|Extra inputs|validation error|pydantic|Value error|"
    r"Unable to|valid (string|integer|boolean|list|tuple|dictionary|UUID|datetime)|\(\?|" + NO_WORDS,
    re.IGNORECASE,
)
"""What no user shall read of: pydantic, and regular expressions."""
