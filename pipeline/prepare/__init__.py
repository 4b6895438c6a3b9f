"""`prepare`: raw recordings to a dataset: what is planned, who does the work, and who writes the result where."""

from skelpipe.prepare.run import FORMATS, Options, Outcome, prepare, survey

__all__ = ["FORMATS", "Options", "Outcome", "prepare", "survey"]
