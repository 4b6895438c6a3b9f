"""`python -m skelpipe` runs the `skelpipe` command, and so does the script of that name."""

from skelpipe.door.first_moments import begin

begin()

import sys
from collections.abc import Callable
from typing import NoReturn

from skelpipe.door.answer import program

__all__ = ["main"]

RANKED = [[name] for name in ("pretrain", "finetune", "knn", "linear", "map", "segment")]  # run by several ranks


def _load() -> Callable[[], object]:
    from skelpipe.cli import main

    return lambda: main(prog_name="skelpipe")


def main() -> NoReturn:
    """Run the command, and exit with its code."""
    program(_load, ranks=sys.argv[1:2] in RANKED)


if __name__ == "__main__":
    main()
