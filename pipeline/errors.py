"""Errors a user can act on. Commands print them as one line, without a traceback, and exit with 1."""

__all__ = ["DatasetError", "RawError", "SkelpipeError", "UsageError"]


class SkelpipeError(Exception):
    """The data or the run failed; the message names what, where, and what to do."""


class UsageError(SkelpipeError):
    """What was asked for cannot be done as asked (exit code 2)."""


class DatasetError(SkelpipeError):
    """A prepared dataset is missing, damaged, or does not fit what is asked of it."""


class RawError(SkelpipeError):
    """A raw recording is damaged. The message starts with `file:line:` where a line is known."""
