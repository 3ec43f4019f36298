"""`v`: the commands by name, loaded when they are called."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import click

from virshle import __version__, log
from virshle.cli import streams
from virshle.cli.group import Group
from virshle.errors import HostError, VirshleError
from virshle.fs import explain

_VM = {
    "create": "virshle.cli.create:create",
    "run": "virshle.cli.run:run",
    "start": "virshle.cli.lifecycle:start",
    "stop": "virshle.cli.lifecycle:stop",
    "pause": "virshle.cli.lifecycle:pause",
    "resume": "virshle.cli.lifecycle:resume",
    "delete": "virshle.cli.lifecycle:delete",
    "ls": "virshle.cli.show:ls",
    "info": "virshle.cli.show:info",
    "logs": "virshle.cli.show:logs",
    "console": "virshle.cli.console:console",
    "ssh": "virshle.cli.ssh:ssh",
    "script": "virshle.cli.script:script",
}
_NOUNS = {
    "template": "virshle.cli.template:template",
    "image": "virshle.cli.image:image",
    "config": "virshle.cli.config:config",
    "doctor": "virshle.cli.doctor:doctor",
    "completion": "virshle.cli.completion:completion",
}
COMPLETE = "_V_COMPLETE"
"""The variable by which a shell asks for completion."""


class Lazy(Group):
    """A group whose commands are imported when they are asked for."""

    def __init__(self, *, targets: dict[str, str], **more: Any) -> None:
        super().__init__(**more)
        self.targets = targets

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.targets, *self.commands]

    def known_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.targets:
            return super().known_command(ctx, name)
        module, _, attribute = self.targets[name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _unheard():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _unheard():
            return super().invoke(ctx)


_UNHEARD = 141
"""The exit code of who has nobody to tell, as a shell has it of who dies of SIGPIPE."""


class Unheard(Exception):
    """Whoever read our output has seen enough, `v ls | head -1`: by a name that click does not end the process for."""


@contextmanager
def _unheard() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise Unheard from error


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    cls=Lazy,
    targets={**_VM, **_NOUNS},
    context_settings=_CONTEXT,
    epilog="Begin with: v create -t tiny web --start --wait; then: v ssh web",
)
@click.version_option(__version__, "--version", prog_name="v", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", count=True, help="Tell more: -v what, -vv why, -vvv every command, -vvvv its output.")
def cli(verbose: int) -> None:
    """VMs from templates, on bare VMM processes. Nothing is hidden: -vvv shows every command, --dry-run before."""
    log.set_level(max(log.level(), verbose))


vm = Lazy(name="vm", targets=_VM, help="The same verbs: `v vm start web` is `v start web`.", context_settings=_CONTEXT)
cli.add_command(vm)


def main() -> NoReturn:
    """Runs the command line and exits with the documented code."""
    streams.mend()
    code = run()
    with suppress(OSError):
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or _UNHEARD
    except OSError as error:
        code = code or _lost(error)
    # Without the interpreter's own end: to free all that the kernel frees anyway takes it longer than most commands.
    os._exit(code)


def run() -> int:
    """The exit code, when all is told."""
    # What virshle makes is its owner's alone, whatever the caller's umask is.
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # nohup's wish is respected.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        code = cli(standalone_mode=False, complete_var=COMPLETE)
        return code if isinstance(code, int) else 0
    except VirshleError as error:
        show_error(error)
        return error.exit_code
    except click.exceptions.Exit as done:
        return done.exit_code
    except SystemExit as done:
        # So click ends a shell's question for completions.
        return int(done.code or 0)
    except click.ClickException as error:
        return _misused(error)
    except (KeyboardInterrupt, click.Abort):
        log.note("interrupted")
        return 130
    except Unheard:
        return _UNHEARD
    except RecursionError:
        show_error(VirshleError("something that was read is nested too deeply"))
        return 1
    except OSError as error:
        return _lost(error)
    except Exception as error:
        if log.level() >= 4:
            raise
        hint = "run it again with -vvvv for the traceback, and report it: this is a bug"
        show_error(VirshleError(f"unexpected {type(error).__name__}: {error}", hint=hint))
        return 1


def _misused(error: click.ClickException) -> int:
    """A noun alone is a question for its help; all else is told as every error is."""
    from virshle.cli.usage import in_our_style

    # click 8.1 has no such error, and shows the help itself.
    alone = getattr(click.exceptions, "NoArgsIsHelpError", ())
    if isinstance(error, click.UsageError) and not isinstance(error, alone):
        show_error(in_our_style(error))
    else:
        with suppress(OSError):
            error.show()
    return error.exit_code


def _lost(error: OSError) -> int:
    """The exit code where the system refused something that nobody expected it to."""
    show_error(explain(error, f"{error.filename or 'the system'}: {error.strerror or error}"))
    return HostError.exit_code


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def show_error(error: VirshleError, prefix: str = "error") -> None:
    """What failed and why, the details, and what to do next; on stderr, where anybody listens."""
    with suppress(OSError):
        told = f"{prefix}: {log.printable(error.message)}"
        click.echo(streams.styled(sys.stderr, told, fg="red"), err=True)
        for line in error.details:
            click.echo(f"  {log.printable(line)}", err=True)
        if error.hint:
            click.echo(f"hint: {log.printable(error.hint)}", err=True)
