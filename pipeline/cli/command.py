"""A command line on which nothing is overridden in silence."""

import os
import sys
from copy import copy
from typing import Any

import click

__all__ = ["Command"]


class Command(click.Command):
    """A click command that refuses an option that was given several values and takes one.

    click itself lets the last value win. Equal values and repeated flags lose nothing and are accepted.
    """

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        """Parse the options; of several ranks, which all have the same ones, only rank 0 says what is wrong."""
        try:
            return super().make_context(*args, **settings)
        except click.UsageError as error:
            if os.environ.get("RANK", "0") != "0":
                sys.exit(error.exit_code)
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and not ctx.resilient_parsing:
            self.refuse_several(ctx, args)
        return super().parse_args(ctx, args)

    def refuse_several(self, ctx: click.Context, args: list[str]) -> None:
        """Raise UsageError for an option that takes one value and is given others beside it."""
        single = [each for each in self.params if isinstance(each, click.Option) and not each.multiple]
        gathering = copy(self)
        gathering.params = [_gathers(each) if each in single else each for each in self.params]
        given, _, _ = gathering.make_parser(ctx).parse_args(args=list(args))
        for option in single:
            values = list(dict.fromkeys(map(str, given.get(option.name, ())))) if not option.count else []
            if len(values) > 1:
                several = ", ".join(values[:-1]) + f" and {values[-1]}"
                raise click.UsageError(f"{option.opts[0]} takes one value, and {several} are given", ctx)


def _gathers(option: click.Option) -> click.Option:
    """Return an option that keeps all values that it is given."""
    every = copy(option)
    every.multiple = True
    return every
