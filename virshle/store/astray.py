"""VMs whose folder was renamed by hand: they cannot be found by their name any more, but they may run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shlex import quote
from uuid import UUID

from virshle.fs import read_start
from virshle.store.layout import LARGEST, Layout, definition

_UUID = re.compile(r"[0-9a-f]{8}(-?)[0-9a-f]{4}(?:\1[0-9a-f]{4}){2}\1[0-9a-f]{12}", re.IGNORECASE)


def astray(layout: Layout, whole: set[Path]) -> dict[UUID, Path]:
    """Each such VM and its present folder. `whole`: the folders of VMs that have the right name."""
    found: dict[UUID, Path] = {}
    for path in strays(layout, whole):
        uuid = _uuid_in(path)
        if uuid is not None and not os.path.lexists(layout.vm(uuid)):
            found.setdefault(uuid, path)
    return found


def strays(layout: Layout, known: set[Path]) -> Iterator[Path]:
    """Files and folders among the VMs' folders that are not in `known`, and not in use by a command that makes or
    deletes a VM."""
    for path in sorted(layout.vms.iterdir()) if layout.vms.is_dir() else ():
        # A file system may have its own folder lost+found there.
        if path not in known and not is_staging(path) and path.name != "lost+found":
            yield path


def is_staging(path: Path) -> bool:
    """True for the folder of a VM that is being made or deleted."""
    return path.name.startswith((".new-", ".del-")) and _is_uuid(path.name[5:])


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _uuid_in(folder: Path) -> UUID | None:
    """The uuid in the folder's vm.json; if there is none, the uuid in the folder's name."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return UUID(json.loads(read_start(definition(folder), LARGEST))["uuid"])
    hit = _UUID.search(folder.name)
    return UUID(hit[0]) if hit else None


def move_back(folder: Path, home: Path) -> str:
    """The command that moves the VM's folder back."""
    return f"mv -T {quote(str(folder))} {quote(str(home))}"
