"""Errors that a user can act on. Commands print them as one line, without a traceback, and exit with 1 or 2."""

__all__ = ["DatasetError", "RawError", "SkelpipeError", "UsageError"]


class SkelpipeError(Exception):
    """The data or the run failed (exit code 1); the message says what failed, where, and what to do."""


class UsageError(SkelpipeError):
    """The request is wrong, or cannot be fulfilled as given (exit code 2)."""


class DatasetError(SkelpipeError):
    """A prepared dataset is missing, damaged, or does not fit the request."""


class RawError(SkelpipeError):
    """A raw recording is damaged. The message starts with `file:line:` where a line is known."""
