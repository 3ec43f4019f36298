"""`v completion`."""

from __future__ import annotations

import click

from virshle.cli.main import COMPLETE, cli

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="\b\nExamples:\n  v completion bash >~/.local/share/bash-completion/completions/v"
    "\n  v completion zsh >~/.zfunc/_v           where ~/.zfunc is in fpath"
    "\n  v completion fish >~/.config/fish/completions/v.fish"
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options and names."""
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    name = context.find_root().info_name or "v"
    # Not the bash class's own, which looks first how old the bash is that is here.
    click.echo(ShellComplete.source(kind(cli, {}, "v" if " " in name else name, COMPLETE)))
