"""What is wrong with a command line, in the style of every other error. Imported where something is."""

from __future__ import annotations

from collections.abc import Iterable

import click

from virshle.errors import UsageError, near

HARMING = frozenset(("delete", "stop", "pause", "gc"))
"""Proposed only for a word that can hardly mean another: who is told `did you mean delete?` may well try it."""
_SURE = 0.8
_OTHERS = {
    **dict.fromkeys(("launch", "up", "new", "init", "clone"), "v create -t TEMPLATE NAME --start --wait"),
    **dict.fromkeys(("shell", "exec", "enter"), "v ssh VM [CMD]"),
    **dict.fromkeys(("ps", "status"), "v ls"),
    **dict.fromkeys(("show", "inspect"), "v info VM"),
    **dict.fromkeys(("shutdown", "poweroff", "down", "kill"), "v stop VM"),
    **dict.fromkeys(("restart", "reboot"), "v stop VM, then v start VM"),
    **dict.fromkeys(("suspend", "freeze"), "v pause VM"),
    **dict.fromkeys(("destroy", "purge"), "v delete VM"),
    "attach": "v console VM",
    "find": "v template ls",
    "templates": "v template ls",
    "images": "v image ls",
    "edit": "edit the configuration: v config show names its file",
    "version": "v --version",
}
"""What people type who know Incus, Lima, Multipass or virsh, and what it is here."""
_FIRST = {
    "node": "there is no node service; v works on this host by itself, and v doctor checks it",
    "peer": "there are no other nodes; v works on this host, and ssh HOST v ls on another",
    "ensure": "v start makes all that a VM needs",
    "config": "v info VM",
    "ch-info": "v info VM",
    "update": "a VM keeps what it was created with: v create another; v image update is for images",
    "get-vsock-path": "v ssh VM needs none",
    "get-list-names": "v ls -q",
}
"""Commands of the first virshle that are not there yet, and what to do without."""
_FORMAT = {
    "--json": "json",
    "--yaml": "yaml",
    "--csv": "csv",
    "--ron": "json",
    "--output": "json",
    "-o": "json",
    "-f": "json",
}
_SIZE = "a template says it: v template ls lists them, docs/templates.md says how to make one"
_OPTIONS = {
    **dict.fromkeys(("--memory", "--mem", "--ram", "--cpus", "--cpu", "--vcpu", "--disk", "--image", "--net"), _SIZE),
    **dict.fromkeys(("--network", "-m", "-d"), _SIZE),
    "--peer": "there are no other nodes yet; ssh HOST v ... works on another",
    "--attach": "v console VM",
    "--fresh": "a VM keeps its disk: v create another",
}
"""The same for options."""


def unknown_command(context: click.Context, word: str, known: Iterable[str]) -> UsageError:
    path = context.command_path
    group = path.rpartition(" ")[2] if context.parent else ""
    if group in ("", "vm") and word in _FIRST:
        return UsageError(f"{path} has no command {word!r} yet, which the first virshle had", hint=_FIRST[word])
    if group == "template" and word in ("create", "delete", "rm", "remove", "edit"):
        hint = "templates are in the configuration file, which v config show names"
    elif group in ("", "vm") and word in _OTHERS:
        hint = f"here it is: {_OTHERS[word]}"
    else:
        close = [name for name in near(word, known) if name not in HARMING or name in near(word, known, alike=_SURE)]
        hint = f"did you mean {' or '.join(close)}?" if close else f"{path} --help lists the commands"
    return UsageError(f"{path} has no command {word!r}", hint=hint)


def in_our_style(error: click.UsageError) -> UsageError:
    """What click found."""
    path = error.ctx.command_path if error.ctx else ""
    hint = f"{path or 'v VERB'} --help"
    if isinstance(error, click.NoSuchOption):
        return UsageError(f"{path} has no option {error.option_name}", hint=_of_option(error, path) or hint)
    message = error.format_message().rstrip(".")
    return UsageError(f"{path}{': ' * bool(path)}{message[:1].lower()}{message[1:]}", hint=hint)


def _of_option(error: click.NoSuchOption, path: str) -> str:
    name = error.option_name
    options = [word for one in error.ctx.command.params for word in one.opts] if error.ctx else []
    if name in _FORMAT and "--format" in options:
        return f"{path} --format {_FORMAT[name]}"
    if name in _OPTIONS and path.split()[-1] in ("create", "run", "start", "ls"):
        return _OPTIONS[name]
    # One letter looks like any other.
    bare = {word.lstrip("-"): word for word in options if word.startswith("--")} if name.startswith("--") else {}
    close = [bare[word] for word in near(name.lstrip("-"), bare)]
    return f"did you mean {' or '.join(close)}?" if close else ""
