"""Writing files so that a name never stands for half a file."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from skelpipe.errors import SkelpipeError

__all__ = ["canonical_json", "replacing", "write_json"]

PART = ".part"


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes its name only when it is whole; on failure it is gone."""
    part = path.with_name(path.name + PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SkelpipeError(f"{path}: cannot be written: {error.strerror or error}") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def canonical_json(content: Any) -> bytes:
    """Return the one JSON text of `content`: sorted keys, no spaces, ASCII. What digests are taken of."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable JSON, whole or not at all."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
