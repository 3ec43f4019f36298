"""Names of VMs, made up or checked, and the MAC addresses that follow from a VM's uuid."""

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
        raise ValueError(f"{name!r} is no host name: 1 to 63 of a-z, 0-9 and '-', which neither starts nor ends it")
    if name.isdigit():
        raise ValueError(f"{name!r} is all digits: it would be taken for a VM's number")
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
    """The name of a VM's runtime folder: the beginning of the uuid, as the path of a socket must be short. `vm`: the
    uuid, also as text, or that name itself."""
    return str(vm).replace("-", "")[:12]


def check_file_name(name: str) -> str:
    """For disks, nets, images and templates: a plain file name. Raises ValueError."""
    if not _FILE.fullmatch(name):
        raise ValueError(f"{name!r} is no plain name: 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', no leading '.'")
    return name


def invent_name(taken: Container[str]) -> str:
    """A readable name that is not taken: `calm-otter`, with a number behind it when luck runs out."""
    # Lists and most verbs need neither this import nor the next.
    import random

    for attempt in range(10_000):
        name = f"{random.choice(_FIRST)}-{random.choice(_SECOND)}"
        if attempt >= 20:
            name += f"-{attempt}"
        if name not in taken:
            return name
    raise AssertionError("ten thousand names in a row are taken")


def mac_address(vm: uuid.UUID, net: str) -> str:
    """One fixed, locally administered, unicast address for each net of a VM."""
    import hashlib

    digest = hashlib.sha256(vm.bytes + net.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))
