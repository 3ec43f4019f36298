"""Reads what is there. What does not parse is shown as broken, with the reason, and left as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import ValidationError

from virshle.errors import ConflictError, not_found
from virshle.fs import explained
from virshle.model.vm import VERSION, Vm
from virshle.store.layout import Layout, definition

LARGEST = 2**22
"""Bytes of a vm.json that are read; more is not one of ours."""


class Problem(Exception):
    """Why a VM's folder cannot be used."""


@dataclass(frozen=True)
class Entry:
    """A VM's folder, whole or broken."""

    uuid: UUID
    folder: Path
    vm: Vm | None
    problem: str = ""
    claimed: str = ""
    """The name by which a broken one is still known."""

    @property
    def name(self) -> str:
        return self.vm.name if self.vm else self.claimed or str(self.uuid)

    def whole(self) -> Vm:
        """Raises ConflictError for a broken one."""
        if self.vm is None:
            raise ConflictError(
                f"{self.name} is broken: {self.problem}",
                hint=f"mend {definition(self.folder)}, or move {self.folder} away; nothing was touched",
            )
        return self.vm


class Store:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def entries(self) -> list[Entry]:
        """Every VM there is, by number; the broken ones last."""
        entries = [self.entry(uuid) for uuid in self._uuids()]
        return sorted(entries, key=lambda entry: (entry.vm is None, entry.vm.id if entry.vm else 0, entry.name))

    def _uuids(self) -> Iterator[UUID]:
        with explained("read the VMs"):
            names = [path.name for path in self.layout.vms.iterdir()] if self.layout.vms.is_dir() else []
        for name in names:
            with suppress(ValueError):
                uuid = UUID(name)
                if str(uuid) == name:
                    yield uuid

    def entry(self, uuid: UUID) -> Entry:
        folder = self.layout.vm(uuid)
        try:
            return Entry(uuid, folder, read_vm(folder, uuid))
        except Problem as problem:
            return Entry(uuid, folder, None, str(problem), self._claimed(uuid))

    def _claimed(self, uuid: UUID) -> str:
        return next((name for name, owner in links(self.layout.names).items() if owner == uuid), "")

    def find(self, word: str, kind: str = "") -> Entry:
        """By name, number or uuid; `kind` ("name", "id", "uuid") allows only one of them. Raises NotFoundError."""
        uuid: UUID | None = None
        if kind in ("", "id") and word.isdecimal():
            uuid = link_owner(self.layout.ids / word)
        elif kind in ("", "uuid"):
            with suppress(ValueError):
                uuid = UUID(word)
        if uuid is None and kind in ("", "name") and "/" not in word and word not in ("", ".", ".."):
            uuid = link_owner(self.layout.names / word)
        if uuid is not None and self.layout.vm(uuid).is_dir():
            entry = self.entry(uuid)
            if word in (entry.name, str(entry.vm.id if entry.vm else ""), str(entry.uuid)) or entry.vm is None:
                return entry
        return self._search(word, kind)

    def _search(self, word: str, kind: str) -> Entry:
        """Without the links: one may be missing, or point to the wrong VM."""
        entries = self.entries()
        for entry in entries:
            keys = {"name": entry.name, "id": str(entry.vm.id) if entry.vm else "", "uuid": str(entry.uuid)}
            if word in ([keys[kind]] if kind else keys.values()):
                return entry
        raise not_found("VM", word, [entry.name for entry in entries], hint="`v ls` lists them")


def links(folder: Path) -> dict[str, UUID]:
    """Every link of `name/` or `id/` and the VM it is for, there or not."""
    paths = list(folder.iterdir()) if folder.is_dir() else []
    return {path.name: owner for path in paths if (owner := link_owner(path)) is not None}


def link_owner(link: Path) -> UUID | None:
    with suppress(OSError, ValueError):
        return UUID(link.readlink().name)
    return None


def read_vm(folder: Path, uuid: UUID) -> Vm:
    """Raises Problem."""
    path = definition(folder)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise Problem(f"vm.json cannot be read: {error.strerror}") from error
    if len(text) > LARGEST:
        raise Problem("vm.json is too large to be one")
    try:
        vm = Vm.model_validate_json(text)
    except ValidationError as error:
        raise Problem(_explain(text, error)) from error
    if vm.uuid != uuid:
        raise Problem(f"vm.json is of another VM: {vm.uuid}")
    return vm


def _explain(text: bytes, error: ValidationError) -> str:
    with suppress(ValueError, RecursionError, AttributeError):
        version = json.loads(text).get("version")
        if isinstance(version, int) and version > VERSION:
            return f"vm.json has schema {version}, made by a newer virshle; this one reads up to {VERSION}"
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"vm.json: {where}: {first['msg']}" if where else f"vm.json: {first['msg']}"
