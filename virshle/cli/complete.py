"""Completion of VMs, templates, images, states, columns and paths. Each function is a `shell_complete` of a parameter.

Every command imports this file, and a shell calls it when the user presses a key: nothing here may take long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from virshle.config.names import image_names, template_names, vm_names
from virshle.model.states import STATES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _of(known: Callable[[], Iterable[str]]) -> Complete:
    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(word) for word in known() if word.startswith(incomplete)]

    return complete


VM = _of(vm_names)
TEMPLATE = _of(template_names)
IMAGE = _of(image_names)
STATE = _of(lambda: STATES)


def columns_of(known: Iterable[str]) -> Complete:
    """Completes the last one of several columns, which commas separate."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        before, comma, last = incomplete.rpartition(",")
        chosen = before.split(",")
        words = [word for word in (*known, *(() if comma else ("all",))) if word not in chosen]
        return [CompletionItem(f"{before}{comma}{word}") for word in words if word.startswith(last)]

    return complete


def path(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell itself completes paths."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]
