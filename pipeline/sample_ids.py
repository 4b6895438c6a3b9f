"""Ids of samples from names of recordings, and back.

What WebDataset's keys and DALI's index cannot hold is escaped: a key ends at its first dot, a slash is a folder,
and a blank separates the columns of the index. Such characters, those that cannot be printed, and % itself become
% and the two hexadecimal digits of each of their UTF-8 bytes, as in URLs: the recording `walk/P01.S02` has the id
`walk%2FP01%2ES02`. Other names are their own ids.
"""

import re
from urllib.parse import quote, unquote

__all__ = ["file_stem", "name_of_sample", "name_of_stem", "sample_id"]

_PLAIN = re.compile(r"[A-Za-z0-9_+=,@~()-]*")
_ESCAPED = frozenset('%./\\:*?"<>|')


def sample_id(name: str) -> str:
    """Return the id of the recording with this name."""
    if _PLAIN.fullmatch(name):
        return name
    return "".join(_escape(c) if c in _ESCAPED or c.isspace() or not c.isprintable() else c for c in name)


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def name_of_sample(identity: str) -> str:
    """Return the name of the recording with this id: the inverse of `sample_id`."""
    return unquote(identity, errors="surrogateescape") if "%" in identity else identity


def file_stem(name: str) -> str:
    """Return the stem of the file that an exported recording is in: quoted as in URLs, but for blanks."""
    stem = quote(name, safe=" ")
    return f"%2E{stem[1:]}" if stem.startswith(".") else stem


def name_of_stem(stem: str) -> str:
    """Return the name of the recording with this `file_stem`; what is no such stem is a name itself."""
    if "%" not in stem:
        return stem
    name = unquote(stem, errors="surrogateescape")
    return name if name.isprintable() and file_stem(name) == stem else stem
