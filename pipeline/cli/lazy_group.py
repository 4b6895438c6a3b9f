"""A group of commands that are imported when they are run, not when their names are listed."""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from skelpipe.cli.command import Answering

__all__ = ["LazyCommand", "LazyGroup"]


@dataclass(frozen=True)
class LazyCommand:
    """A command as `module:attribute`, its line in the list of commands, and the section there."""

    place: str
    short_help: str
    section: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), self.place
        return command


class _Loaded(MutableMapping[str, click.Command]):
    """Commands by name, in the order of the table; each is imported when it is first looked up."""

    def __init__(self, table: Mapping[str, LazyCommand]) -> None:
        self._table = table
        self._found: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._found:
            self._found[name] = self._table[name].load()
        return self._found[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._table or name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._table, *self._found]))

    def __len__(self) -> int:
        return len(dict.fromkeys([*self._table, *self._found]))


class LazyGroup(Answering, click.Group):
    """A group of commands from a table; listing and completing their names imports none of them."""

    def __init__(self, *args: object, table: Mapping[str, LazyCommand], **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self.table = table
        self.commands = _Loaded(table)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in the sections of the table."""
        width = max(map(len, self.table))
        for section in dict.fromkeys(each.section for each in self.table.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [
                        (name.ljust(width), each.short_help)
                        for name, each in self.table.items()
                        if each.section == section
                    ]
                )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so, with their short help, and the group's own options."""
        names = [
            CompletionItem(name, help=each.short_help)
            for name, each in self.table.items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]
