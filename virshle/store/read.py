"""Reads VMs from their folders. A VM that cannot be read is shown as broken, with the reason, and is not changed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING
from uuid import UUID

from virshle.errors import ConflictError, NotFoundError, not_found
from virshle.fs import explained
from virshle.model.names import check_name
from virshle.model.version import FIRST, VERSION, NewerError, upgrade
from virshle.store.astray import astray, move_back
from virshle.store.glance import check_ours
from virshle.store.layout import LARGEST, Layout, definition, is_run_of, link_target, run_link

if TYPE_CHECKING:
    from pydantic import ValidationError

    from virshle.model.vm import Vm


class Problem(Exception):
    """Why a VM's folder cannot be used."""


class Newer(Problem):
    """A newer virshle can use it."""


class Linked(Problem):
    """Its folder is a link."""


class Closed(Problem):
    """Another user owns it."""


@dataclass(frozen=True)
class Summary:
    """The data of a VM that lists show. `memory` in bytes, `created` as ISO 8601."""

    id: int
    name: str
    template: str
    vcpu: int
    memory: int
    created: str
    hypervisor: str
    image: str | None
    """The name of the image of its first disk. None if that was a plain file."""
    source: str
    store_path: str | None
    """The store path of that image when the VM was made."""
    account: str | None
    disks: tuple[tuple[str, int], ...]
    """For each disk: its file, and the least number of bytes that the file has."""
    boot: tuple[str, ...]
    """The files that the VM needs to boot."""


@dataclass(frozen=True)
class Entry:
    """A VM's folder, whole or broken. A list uses the summaries of all VMs; a verb reads the `whole()` of one VM."""

    uuid: UUID
    folder: Path
    summary: Summary | None
    problem: str = ""
    claimed: str = ""
    """For a broken VM: the name that a link still gives it."""

    @property
    def name(self) -> str:
        return self.summary.name if self.summary else self.claimed or str(self.uuid)

    def found_by(self, word: str, kind: str = "") -> bool:
        """True if `word` is the VM's name, number or uuid. `kind` allows only one of the three."""
        if self.summary is None:
            return False
        words = {"name": self.summary.name, "id": str(self.summary.id), "uuid": str(self.uuid)}
        return word in ([words[kind]] if kind else words.values())

    def whole(self) -> Vm:
        """The VM's definition, fully checked. Raises ConflictError for a broken VM."""
        try:
            return read_vm(self.folder, self.uuid)
        except Problem as problem:
            file = definition(self.folder)
            mend = f"fix {file}; or, if the VM does not run, move {self.folder} away"
            if isinstance(problem, Newer):
                mend = f"use the virshle that wrote {file}, or a newer one"
            elif isinstance(problem, Linked):
                mend = f"put the folder itself there; `v delete --force {self.name}` removes only the link"
            elif isinstance(problem, Closed):
                mend = f"to make it yours, as root: {to_own(self.folder)}"
            raise ConflictError(f"{self.name} is broken: {problem}", hint=f"{mend}; nothing was changed") from None


def to_own(folder: Path) -> str:
    """A command for root that gives all files in a folder to the caller. It helps, for example, if root made a VM in a
    user's state folder."""
    return f"chown --no-dereference --recursive {os.getuid()} {quote(str(folder))}"


class Store:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def entries(self) -> list[Entry]:
        """All VMs, in the order of their numbers. Broken VMs come last."""
        entries = sorted((self.entry(uuid) for uuid in self._uuids()), key=_order)
        return self._clashes(entries)

    def _clashes(self, entries: list[Entry]) -> list[Entry]:
        """If VMs share a name or a number, for example after a folder was copied, only the VM that the link leads to is
        good. All others get a problem."""
        clashing = {}
        for key, folder in (("name", self.layout.names), ("id", self.layout.ids)):
            count = Counter(getattr(entry.summary, key) for entry in entries if entry.summary)
            for entry in entries:
                if entry.summary and count[word := getattr(entry.summary, key)] > 1:
                    owner = link_owner(folder / str(word))
                    if owner != entry.uuid:
                        whose = f"VM {owner}" if owner else "another VM too"
                        clashing[entry.uuid] = f"its {key} {word} belongs to {whose}: use its uuid to name it"
        if not clashing:
            return entries
        return [replace(entry, problem=clashing.get(entry.uuid, entry.problem)) for entry in entries]

    def _uuids(self) -> Iterator[UUID]:
        with explained("read the VMs"):
            if not self.layout.vms.is_dir():
                self.layout.check_state()
                return
            names = [path.name for path in self.layout.vms.iterdir()]
        for name in names:
            with suppress(ValueError):
                uuid = UUID(name)
                if str(uuid) == name:
                    yield uuid

    def entry(self, uuid: UUID) -> Entry:
        folder = self.layout.vm(uuid)
        try:
            return Entry(uuid, folder, read_summary(folder, uuid))
        except Problem as problem:
            return Entry(uuid, folder, None, str(problem), self._claimed(uuid))

    def _claimed(self, uuid: UUID) -> str:
        return next((name for name, owner in links(self.layout.names).items() if owner == uuid and _is_name(name)), "")

    def astray(self, uuid: UUID) -> Path | None:
        """The present folder of a VM whose folder was renamed by hand."""
        if os.path.lexists(self.layout.vm(uuid)):
            return None
        return astray(self.layout, {entry.folder for entry in self.entries() if entry.summary}).get(uuid)

    def find(self, word: str, kind: str = "") -> Entry:
        """Finds a VM by name, number or uuid; `kind` ("name", "id", "uuid") allows only one of them.

        The links are tried first, but a link may be missing or lead to the wrong VM. A broken VM can be found only by
        its links, and only if no whole VM matches. Raises NotFoundError.
        """
        owners = list(self._linked(word, kind))
        linked = [self.entry(uuid) for uuid in owners if os.path.lexists(self.layout.vm(uuid))]
        for entry in linked:
            if entry.found_by(word, kind):
                return entry
        entries = self.entries()
        for entry in entries:
            if entry.found_by(word, kind):
                return entry
        for entry in linked:
            if entry.summary is None:
                return entry
        for uuid in owners:
            if folder := self.astray(uuid):
                raise _renamed(word, folder, self.layout.vm(uuid))
        if kind in ("id", "uuid") or word.isdecimal():
            what = "uuid" if kind == "uuid" else "number"
            raise NotFoundError(f"no VM with the {what} {word}", hint="`v ls` lists them")
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


def _renamed(word: str, folder: Path, home: Path) -> NotFoundError:
    what = f"the folder of {word} was renamed: it is {folder} now"
    return NotFoundError(what, hint=f"move it back: {move_back(folder, home)}")


def _is_name(word: str) -> bool:
    with suppress(ValueError):
        return check_name(word) == word
    return False


def _order(entry: Entry) -> tuple[bool, int, str]:
    return entry.summary is None, entry.summary.id if entry.summary else 0, entry.name


def links(folder: Path) -> dict[str, UUID]:
    """Every link in `name/` or `id/`, and the uuid of its VM. The VM may be missing."""
    paths = list(folder.iterdir()) if folder.is_dir() else []
    return {path.name: owner for path in paths if (owner := link_owner(path)) is not None}


def link_owner(link: Path) -> UUID | None:
    """The uuid of the VM that one of our links names. None for any other link."""
    with suppress(OSError, ValueError):
        target = str(link.readlink())
        uuid = UUID(target.rpartition("/")[2])
        return uuid if target == link_target(uuid) else None
    return None


def run_folder(layout: Layout, uuid: UUID) -> Path:
    """The folder with the sockets of the last run. The start made a link to it, because another caller may have had
    another environment."""
    with suppress(OSError):
        noted = run_link(layout.vm(uuid)).readlink()
        # If a VM's folder was copied by hand, it may have the link of another VM.
        if is_run_of(uuid, noted):
            return noted
    return next((folder for folder in layout.former_runs(uuid) if folder.is_dir()), layout.run(uuid))


def read_vm(folder: Path, uuid: UUID) -> Vm:
    """Raises Problem."""
    return _parse(_read_in(folder), uuid)


def read_summary(folder: Path, uuid: UUID) -> Summary:
    """The summary of a VM. A vm.json that virshle wrote passes the fast check; for any other, the full check runs.

    Raises Problem."""
    text = _read_in(folder)
    try:
        data = upgrade(json.loads(text))
        check_ours(text, data, uuid)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        data = _parse(text, uuid).model_dump(mode="json")
    named = {key: data[key] for key in ("id", "name", "template", "vcpu", "memory", "created", "hypervisor", "account")}
    disks = tuple((disk["file"], disk["size"]) for disk in data["disks"])
    boot = tuple(data["boot"][key] for key in ("kernel", "initrd") if key in data["boot"])
    return Summary(**named, **{key: data["origin"].get(key) for key in _OF_ORIGIN}, disks=disks, boot=boot)


_OF_ORIGIN = ("image", "source", "store_path")


def _parse(text: bytes, uuid: UUID) -> Vm:
    # This import takes more time than to list a thousand VMs.
    import pydantic

    from virshle.model.vm import Vm

    try:
        vm = Vm.model_validate_json(_upgraded(text))
    except pydantic.ValidationError as error:
        raise Problem(_explain(error)) from error
    if vm.uuid != uuid:
        raise Problem(f"vm.json belongs to another VM: {vm.uuid}")
    return vm


def _upgraded(text: bytes) -> bytes:
    """The text in the present schema. Raises Problem."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text  # the full check reports the error
    if not isinstance(data, dict):
        return text
    try:
        upgraded = upgrade(data)
    except NewerError as error:
        raise Newer(f"vm.json has {error}") from error
    except ValueError as error:
        raise Problem(f"vm.json: {error}") from error
    return text if upgraded is data else json.dumps(upgraded).encode()


def schema(folder: Path) -> int | None:
    """The schema version of the vm.json in a folder, which may be a staging folder. None if it has no valid version."""
    try:
        data = json.loads(_read(definition(folder)))
    except (Problem, ValueError, RecursionError):
        return None
    version = data.get("version", FIRST) if isinstance(data, dict) else None
    return version if type(version) is int else None


def made_by_newer(folder: Path) -> bool:
    """True if a newer virshle made the folder. This virshle cannot know which files belong to such a VM."""
    return (schema(folder) or 0) > VERSION


def _read_in(folder: Path) -> bytes:
    """The text of vm.json, if the folder is not a link. Raises Problem."""
    if folder.is_symlink():
        raise Linked("its folder is a link to elsewhere: move the folder itself here")
    return _read(definition(folder))


def _read(path: Path) -> bytes:
    try:
        # Do not follow a link, and do not wait for a FIFO. os.fdopen would leak the descriptor if this is a folder.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            text = _read_all(handle)
        finally:
            os.close(handle)
    except PermissionError as error:
        raise Closed(f"vm.json cannot be read: {error.strerror}: {_whose(path)}") from error
    except OSError as error:
        raise Problem(f"vm.json cannot be read: {error.strerror}") from error
    if len(text) > LARGEST:
        raise Problem("vm.json is too large")
    return text


def _whose(path: Path) -> str:
    """Says which file or folder of another user prevents the access."""
    for one in (path, path.parent):
        with suppress(OSError):
            return f"{one} belongs to the user with the number {one.stat().st_uid}"
    return f"{path.parent.parent} is closed"


def _read_all(handle: int) -> bytes:
    """The content of the file, but at most one byte more than LARGEST."""
    text = b""
    while len(text) <= LARGEST and (block := os.read(handle, 2**16)):
        text += block
    return text


def _explain(error: ValidationError) -> str:
    from virshle.model.words import sentence

    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    words = sentence(first).replace("a table", "an object")
    return f"vm.json: {where}: {words}" if where else f"vm.json: {words}"


def unfinished_images(layout: Layout) -> list[Path]:
    """The folders of images that are being made or removed, or that an interrupted command left."""
    there = sorted(layout.images.iterdir()) if layout.images.is_dir() else []
    return [path for path in there if path.name.startswith((".new-", ".del-")) and not path.is_symlink()]
