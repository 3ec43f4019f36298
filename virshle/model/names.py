"""Invents and checks names, and computes the MAC addresses of a VM from its uuid."""

from __future__ import annotations

import re
import uuid
from collections.abc import Container

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_FIRST = (
    "amber brave brisk calm clever coral crisp dapper eager early fair fleet fond gentle glad golden "
    "grand happy honest jolly keen kind late light lively lucky mellow merry mild misty neat nimble noble "
    "plucky polite proud quick quiet rapid ready rosy round rustic sandy sharp shy silent silver sleek "
    "smart snowy solid spry steady sunny swift tidy tender vivid warm wild wise witty young zesty "
).split()
_SECOND = (
    "acorn alder aspen badger beaver birch bison brook cedar clover cobalt comet condor crane creek dune "
    "eagle ember falcon fern finch fjord fox gale garnet grove hare harbor hazel heron holly iris jasper "
    "juniper kite lake lark linden lynx maple marten meadow moss newt oak osprey otter owl pebble pine "
    "plover quartz rail raven reed ridge robin rowan sable sparrow spruce stoat swan thistle tulip wren "
).split()


def check_name(name: str) -> str:
    """The name of a VM is its host name. Raises ValueError."""
    if not _LABEL.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a host name: use 1 to 63 of a-z, 0-9 and '-', with no '-' at the beginning or the end"
        )
    if name.isdigit():
        raise ValueError(f"{name!r} has only digits: virshle would read it as a VM's number")
    if is_uuid(name):
        raise ValueError(f"{name!r} is a uuid")
    return name


def is_uuid(word: str) -> bool:
    if len(word) < 32:
        return False
    try:
        uuid.UUID(word)
    except ValueError:
        return False
    return True


def run_name(vm: uuid.UUID | str) -> str:
    """The name of a VM's runtime folder: the beginning of the uuid, because the path of a socket must be short. `vm`:
    the uuid, its text, or the name itself."""
    return str(vm).replace("-", "")[:12]


def check_file_name(name: str) -> str:
    """Disks, nets, images and templates have plain file names. Raises ValueError."""
    if not _FILE.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a plain name: use 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', not '.', '_' or '-' first"
        )
    return name


def invent_name(taken: Container[str]) -> str:
    """A readable name that is not taken, such as `calm-otter`. After 20 taken names it gets a number at its end."""
    # Lists and most verbs do not need this import and the next one.
    import random

    for attempt in range(10_000):
        name = f"{random.choice(_FIRST)}-{random.choice(_SECOND)}"
        if attempt >= 20:
            name += f"-{attempt}"
        if name not in taken:
            return name
    raise AssertionError("ten thousand names in a row are taken")


def mac_address(vm: uuid.UUID, net: str) -> str:
    """The fixed address of one net of a VM. It is locally administered and unicast."""
    import hashlib

    digest = hashlib.sha256(vm.bytes + net.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))
