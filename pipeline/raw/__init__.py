"""Readers of raw recordings: one per file format, and the folders and archives that hold the files."""

from skelpipe.raw.recording import Recording

__all__ = ["Recording"]
