"""Finds the VMs that the command line selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from virshle.errors import UsageError
from virshle.model.states import STATES
from virshle.service.node import Node
from virshle.service.show import rows
from virshle.store import Entry

_FIRST_VIRSHLES = {"created": "stopped", "not_created": "stopped", "shutdown": "stopped"}
"""States of the first virshle. All three are states of a VM that does not run."""


@dataclass(frozen=True)
class Selection:
    words: Sequence[str] = ()
    """Names, numbers or uuids."""
    names: Sequence[str] = ()
    ids: Sequence[str] = ()
    uuids: Sequence[str] = ()
    state: str | None = None
    account: str | None = None
    everything: bool = False

    @property
    def bulk(self) -> bool:
        return self.everything or self.state is not None or self.account is not None

    def refuse_empty(self) -> None:
        """Raises UsageError for an empty word: most likely a variable was not set."""
        if "" in (*self.words, *self.names, *self.ids, *self.uuids, self.state, self.account):
            raise UsageError("one of the names or selectors is empty", hint="was a variable not set?")

    @property
    def single(self) -> list[tuple[str, str]]:
        keyed = (("", self.words), ("name", self.names), ("id", self.ids), ("uuid", self.uuids))
        return [(kind, word) for kind, words in keyed for word in words]


def select(node: Node, selection: Selection, *, needed: bool = True) -> list[Entry]:
    """All selected VMs, each once. Raises NotFoundError for the first word that names no VM. Raises UsageError if
    nothing is selected: an empty selection never means all VMs."""
    selection.refuse_empty()
    if selection.single and selection.bulk:
        raise UsageError("name VMs, or select them by --state, --account or --all: not both")
    if selection.single:
        found = [node.store.find(word, kind) for kind, word in selection.single]
        return list({entry.uuid: entry for entry in found}.values())
    if not selection.bulk:
        if needed:
            raise UsageError("name at least one VM", hint="v ls lists the VMs; --all means all of them")
        return node.store.entries()
    entries = node.store.entries()
    if selection.account is not None:
        entries = [entry for entry in entries if entry.summary and entry.summary.account == selection.account.lower()]
    if selection.state is not None:
        wanted = _FIRST_VIRSHLES.get(selection.state, selection.state)
        if wanted not in STATES:
            raise UsageError(f"no state {selection.state!r}", hint=f"one of {', '.join(STATES)}")
        entries = [entry for entry, row in zip(entries, rows(node, entries), strict=True) if row.state == wanted]
    return entries
