"""`v completion`."""

from __future__ import annotations

import re

import click

from virshle.cli.main import COMPLETE, cli

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="\b\nExamples:\n  v completion bash >~/.local/share/bash-completion/completions/v"
    "\n  v completion zsh >~/.zfunc/_v           if ~/.zfunc is in fpath"
    "\n  v completion fish >~/.config/fish/completions/v.fish"
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the shell code that completes commands, options and names, for `v` and for `virshle`."""
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    # Not the method of the bash class: it checks the version of this host's bash first.
    script = ShellComplete.source(kind(cli, {}, "v", COMPLETE))
    script = re.sub(r"(#compdef|-F _v_completion|compdef _v_completion|--command) v\b", r"\1 v virshle", script)
    script = script.replace("--command v virshle", "--command v --command virshle")
    # click prints `KIND,WORD` for each word. WORD may have commas too (that of -c does), so only the first one splits.
    click.echo(script.replace('string split ","', 'string split -m 1 ","'))
