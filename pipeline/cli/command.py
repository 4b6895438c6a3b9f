"""A command line on which nothing is overridden in silence, and whose every fault is answered at the door."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import click

from skelpipe.door.answer import DEBUG, answering, debug, last_words
from skelpipe.errors import UsageError

__all__ = ["Answering", "Command"]

GO_ON = "--resume continues from the newest checkpoint, or from the start where there is none"
KEPT = "finished work is kept, the same command goes on"
RUN_AGAIN = "nothing is kept, run the command again"
PASSING = (click.ClickException, click.exceptions.Exit, click.Abort)  # click itself says what they are
OF_CLICK = vars(click.exceptions)
IS_HELP = OF_CLICK.get("NoArgsIsHelpError", ())  # not a fault; before click 8.2 none is raised
IN_HELP = (click.NoSuchOption, click.MissingParameter, OF_CLICK.get("NoSuchCommand", click.NoSuchOption))


def _debug(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked:
        ctx.meta[DEBUG] = True
        debug()


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Make what click says of a wrong command line one line, as everything else that is wrong."""
    try:
        yield
    except IS_HELP:
        raise
    except click.UsageError as error:
        said = " ".join(error.format_message().split())
        if isinstance(error, IN_HELP) and error.ctx is not None:
            said = f"{said.removesuffix('.')}; see {error.ctx.command_path} --help"
        raise UsageError(said) from None


@contextmanager
def _said_once() -> Iterator[None]:
    """Let only rank 0 say what is wrong with options: all of several ranks have the same ones."""
    try:
        yield
    except UsageError as error:
        last_words(str(error))
        if os.environ.get("RANK", "0") != "0":
            sys.exit(2)
        raise


class Answering(click.Command):
    """A click command whose errors, while it is parsed and while it runs, become one line: `skelpipe.door.answer`.

    It has the option `--debug`, which shows tracebacks.
    """

    advice = ""  # what to do after a signal has ended the command

    def __init__(self, *args: Any, advice: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.advice = advice or self.advice
        option = click.Option(
            ["--debug"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_debug,
            help="Show the traceback of an error [also: SKELPIPE_DEBUG=1].",
        )
        self.params.append(option)

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        """Parse the options. What the command prints keeps its escapes: click would remove some from a file."""
        with answering(*PASSING), _said_once(), _in_one_line():
            return super().make_context(*args, **{"color": True, **settings})

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with answering(*PASSING, advice=self.advice or (GO_ON if "resume" in ctx.params else RUN_AGAIN)):
            if DEBUG in ctx.meta:
                debug()
            with _in_one_line():
                return super().invoke(ctx)


class Command(Answering):
    """A click command that refuses an option that was given several values and takes one.

    click itself lets the last value win. Equal values and repeated flags lose nothing and are accepted.
    """

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
