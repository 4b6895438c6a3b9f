"""Writing datasets: the plan from raw files, the engines that run it, the writers, and copies."""

from skelpipe.prepare.run import FORMATS, Options, Outcome, prepare, survey, write_dataset

__all__ = ["FORMATS", "Options", "Outcome", "prepare", "survey", "write_dataset"]
