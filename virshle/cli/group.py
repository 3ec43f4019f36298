"""A group of commands: the other names of some verbs, and the error for a word that is no command."""

from __future__ import annotations

import click

_ALIASES = {"on": "start", "off": "stop", "remove": "delete", "rm": "delete", "list": "ls"}
"""Verbs of the first virshle, and `rm`, which everybody tries."""


class Group(click.Group):
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.known_command(ctx, cmd_name) or self.known_command(ctx, _ALIASES.get(cmd_name, cmd_name))

    def known_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if ctx.resilient_parsing:
                raise
            from virshle.cli.usage import unknown_command

            raise unknown_command(ctx, args[0], self.list_commands(ctx)) from None
