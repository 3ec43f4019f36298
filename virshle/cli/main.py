"""`v`: its commands by name. A command is imported when it is called."""

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
"""The environment variable that a shell sets to ask for completions."""


class Lazy(Group):
    """A group that imports a command when the command is called."""

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
        with _reader_gone():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_gone():
            return super().invoke(ctx)


_NO_READER = 141
"""The exit code if nobody reads the output any more. A shell gives the same code to a process that SIGPIPE kills."""


class ReaderGone(Exception):
    """The reader of our output has closed it, as in `v ls | head -1`. Click ends the process itself for a
    BrokenPipeError, but not for this exception."""


@contextmanager
def _reader_gone() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    cls=Lazy,
    targets={**_VM, **_NOUNS},
    context_settings=_CONTEXT,
    epilog="Begin with: v create -t tiny web --start --wait, then: v ssh web",
)
@click.version_option(__version__, "--version", prog_name="v", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", count=True, help="Show more: -v what, -vv why, -vvv every command, -vvvv its output.")
def cli(verbose: int) -> None:
    """Create VMs from templates, and run each as one process: cloud-hypervisor or QEMU. Nothing is hidden: -vvv shows
    every command that v runs, and --dry-run shows them without running them."""
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
        code = code or _NO_READER
    except OSError as error:
        code = code or _lost(error)
    # Not by the interpreter's own end: it takes longer than most commands, and the kernel frees all memory anyway.
    os._exit(code)


def run() -> int:
    """Runs the command, prints its error if there is one, and returns the exit code."""
    # Only their owner may read the files that virshle makes, whatever the caller's umask is.
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # nohup ignores SIGHUP, and that must stay so.
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
        # Click ends this way after it has printed completions for a shell.
        return int(done.code or 0)
    except click.ClickException as error:
        return _misused(error)
    except (KeyboardInterrupt, click.Abort):
        log.note("interrupted")
        return 130
    except ReaderGone:
        return _NO_READER
    except RecursionError:
        show_error(VirshleError("a file or an answer that v read is nested too deeply"))
        return 1
    except OSError as error:
        return _lost(error)
    except Exception as error:
        if log.level() >= 4:
            raise
        hint = "this is a bug: run it again with -vvvv to see the traceback, and report it"
        show_error(VirshleError(f"unexpected {type(error).__name__}: {error}", hint=hint))
        return 1


def _misused(error: click.ClickException) -> int:
    """A noun alone (`v image`) prints its help. Every other usage error is printed like all errors."""
    from virshle.cli.usage import in_our_style

    # click 8.1 does not have this error: it prints the help itself.
    alone = getattr(click.exceptions, "NoArgsIsHelpError", ())
    if isinstance(error, click.UsageError) and not isinstance(error, alone):
        show_error(in_our_style(error))
    else:
        with suppress(OSError):
            error.show()
    return error.exit_code


def _lost(error: OSError) -> int:
    """Prints an OSError that no other code expected, and returns the exit code."""
    show_error(explain(error, f"{error.filename or 'the system'}: {error.strerror or error}"))
    return HostError.exit_code


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def show_error(error: VirshleError, prefix: str = "error") -> None:
    """Prints on stderr what failed and why, the details, and what to do next. A closed stderr is no error."""
    with suppress(OSError):
        headline = f"{prefix}: {log.printable(error.message)}"
        click.echo(streams.styled(sys.stderr, headline, fg="red"), err=True)
        for line in error.details:
            click.echo(f"  {log.printable(line)}", err=True)
        if error.hint:
            click.echo(f"hint: {log.printable(error.hint)}", err=True)
