"""VMs whose folder was renamed by hand: nobody finds them by their name any more, and they may run."""

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
    """Each such VM, and the folder that holds it now. `whole`: the folders of VMs that are where they belong."""
    found: dict[UUID, Path] = {}
    for path in strays(layout, whole):
        uuid = _uuid_in(path)
        if uuid is not None and not os.path.lexists(layout.vm(uuid)):
            found.setdefault(uuid, path)
    return found


def strays(layout: Layout, known: set[Path]) -> Iterator[Path]:
    """What is among the VMs' folders, and neither known nor of a command that makes or deletes one."""
    for path in sorted(layout.vms.iterdir()) if layout.vms.is_dir() else ():
        # A file system brings its own folder with it.
        if path not in known and not is_staging(path) and path.name != "lost+found":
            yield path


def is_staging(path: Path) -> bool:
    """Whether it is the folder of a VM that comes or goes."""
    return path.name.startswith((".new-", ".del-")) and _is_uuid(path.name[5:])


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _uuid_in(folder: Path) -> UUID | None:
    """As its vm.json says; else as its name does."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return UUID(json.loads(read_start(definition(folder), LARGEST))["uuid"])
    hit = _UUID.search(folder.name)
    return UUID(hit[0]) if hit else None


def move_back(folder: Path, home: Path) -> str:
    """The command that makes the VM be there again."""
    return f"mv -T {quote(str(folder))} {quote(str(home))}"
