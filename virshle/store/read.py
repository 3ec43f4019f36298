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
from virshle.store.layout import Layout, definition, link_target

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

    def found_by(self, word: str, kind: str = "") -> bool:
        """Whether that is its name, its number or its uuid, or the one of them that is asked for."""
        return (
            self.vm is not None
            and word
            in {
                "name": (self.vm.name,),
                "id": (str(self.vm.id),),
                "uuid": (str(self.uuid),),
                "": (self.vm.name, str(self.vm.id), str(self.uuid)),
            }[kind]
        )

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
        """By name, number or uuid; `kind` ("name", "id", "uuid") allows only one of them. Raises NotFoundError.

        The links are asked first, but any may be missing or point to the wrong VM. A broken VM is known by nothing
        but the links that are left of it, and comes after every whole one.
        """
        linked = [self.entry(uuid) for uuid in self._linked(word, kind) if self.layout.vm(uuid).is_dir()]
        for entry in linked:
            if entry.found_by(word, kind):
                return entry
        entries = self.entries()
        for entry in entries:
            if entry.found_by(word, kind):
                return entry
        for entry in linked:
            if entry.vm is None:
                return entry
        raise not_found("VM", word, [entry.name for entry in entries], hint="`v ls` lists them")

    def _linked(self, word: str, kind: str) -> Iterator[UUID]:
        if kind in ("", "uuid"):
            with suppress(ValueError):
                yield UUID(word)
        for link_kind, folder in (("name", self.layout.names), ("id", self.layout.ids)):
            if kind in ("", link_kind) and word not in ("", ".", "..") and "/" not in word and "\0" not in word:
                owner = link_owner(folder / word)
                if owner is not None:
                    yield owner


def links(folder: Path) -> dict[str, UUID]:
    """Every link of `name/` or `id/` and the VM it is for, there or not."""
    paths = list(folder.iterdir()) if folder.is_dir() else []
    return {path.name: owner for path in paths if (owner := link_owner(path)) is not None}


def link_owner(link: Path) -> UUID | None:
    """The VM that one of our links is for; none for any other link."""
    with suppress(OSError, ValueError):
        target = str(link.readlink())
        uuid = UUID(target.rpartition("/")[2])
        return uuid if target == link_target(uuid) else None
    return None


def read_vm(folder: Path, uuid: UUID) -> Vm:
    """Raises Problem."""
    path = definition(folder)
    try:
        # Neither a link that is followed nor a FIFO that is waited for; opened by hand, as fdopen leaks a folder's.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            text = _read_all(handle)
        finally:
            os.close(handle)
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


def _read_all(handle: int) -> bytes:
    """At most one byte more than LARGEST."""
    text = b""
    while len(text) <= LARGEST and (block := os.read(handle, 2**16)):
        text += block
    return text


def _explain(text: bytes, error: ValidationError) -> str:
    with suppress(ValueError, RecursionError, AttributeError):
        version = json.loads(text).get("version")
        if isinstance(version, int) and version > VERSION:
            return f"vm.json has schema {version}, made by a newer virshle; this one reads up to {VERSION}"
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"vm.json: {where}: {first['msg']}" if where else f"vm.json: {first['msg']}"
