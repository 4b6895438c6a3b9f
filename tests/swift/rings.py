"""Build Swift's three rings of one replica on one device: `python rings.py FOLDER PORT PORT PORT`.

The ports are those of account, container and object server. Runs in Swift's own environment.
"""

import sys
from pathlib import Path

from swift.cli.ringbuilder import main as ring_builder

PART_POWER = "2"  # four partitions: one disk has nothing to spread


def main() -> None:
    folder, *ports = sys.argv[1:]
    for name, port in zip(("account", "container", "object"), ports, strict=True):
        builder = str(Path(folder) / f"{name}.builder")
        _run(builder, "create", PART_POWER, "1", "0")
        _run(builder, "add", f"r1z1-127.0.0.1:{port}/disk", "1")
        _run(builder, "rebalance")


def _run(*arguments: str) -> None:
    """Run one command of swift-ring-builder; it ends with 1 for a mere warning and 2 for an error."""
    try:
        ring_builder(["swift-ring-builder", *arguments])
    except SystemExit as done:
        if done.code not in (None, 0, 1):
            raise


if __name__ == "__main__":
    main()
