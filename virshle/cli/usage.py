"""Errors in the command line, in the style of all other errors. Imported only when there is one."""

from __future__ import annotations

from collections.abc import Iterable

import click

from virshle.errors import UsageError, near

HARMING = frozenset(("delete", "stop", "pause", "gc"))
"""Verbs that do harm. They are proposed only for a word that is very close: a user may well type what is proposed."""
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
    "edit": "your editor; v config show names the configuration file",
    "version": "v --version",
}
"""Commands of Incus, Lima, Multipass or virsh, and the command of v that does the same."""
_FIRST = {
    "node": "there is no node service: v works on this host directly, and v doctor checks the host",
    "peer": "there are no other nodes yet: v works on this host; for another host: ssh HOST v ls",
    "ensure": "v start makes everything that a VM needs",
    "config": "v info VM",
    "ch-info": "v info VM",
    "update": "a VM keeps what it was created with: create another one with v create; v image update updates images",
    "get-vsock-path": "v ssh VM finds the way by itself",
    "get-list-names": "v ls -q",
}
"""Commands of the first virshle that do not exist yet, and what to do instead."""
_FORMAT = {
    "--json": "json",
    "--yaml": "yaml",
    "--csv": "csv",
    "--ron": "json",
    "--output": "json",
    "-o": "json",
    "-f": "json",
}
_SIZE = "the template sets this: v template ls lists the templates, docs/templates.md says how to make one"
_OPTIONS = {
    **dict.fromkeys(("--memory", "--mem", "--ram", "--cpus", "--cpu", "--vcpu", "--disk", "--image", "--net"), _SIZE),
    **dict.fromkeys(("--network", "-m", "-d"), _SIZE),
    "--peer": "there are no other nodes yet; for another host: ssh HOST v ...",
    "--attach": "v console VM",
    "--fresh": "a VM keeps its disk: create another VM with v create",
}
"""The same for options."""


def unknown_command(context: click.Context, word: str, known: Iterable[str]) -> UsageError:
    path = context.command_path
    group = path.rpartition(" ")[2] if context.parent else ""
    if group in ("", "vm") and word in _FIRST:
        return UsageError(f"{path} does not have the first virshle's command {word!r} yet", hint=_FIRST[word])
    if group == "template" and word in ("create", "delete", "rm", "remove", "edit"):
        hint = "templates are in the configuration file; v config show names that file"
    elif group in ("", "vm") and word in _OTHERS:
        hint = f"use: {_OTHERS[word]}"
    else:
        close = [name for name in near(word, known) if name not in HARMING or name in near(word, known, alike=_SURE)]
        hint = f"did you mean {' or '.join(close)}?" if close else f"{path} --help lists the commands"
    return UsageError(f"{path} has no command {word!r}", hint=hint)


def in_our_style(error: click.UsageError) -> UsageError:
    """The error that click found, in our style."""
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
    # Two options of one letter always look alike.
    bare = {word.lstrip("-"): word for word in options if word.startswith("--")} if name.startswith("--") else {}
    close = [bare[word] for word in near(name.lstrip("-"), bare)]
    return f"did you mean {' or '.join(close)}?" if close else ""
