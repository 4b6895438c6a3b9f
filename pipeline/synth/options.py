"""The options that all recordings of a synthetic dataset share."""

from dataclasses import dataclass

from skelpipe.errors import UsageError

__all__ = ["DATASETS", "SynthOptions"]

# Part of the seed: the number of a dataset never changes.
DATASETS = {
    "ntu60": 60,
    "ntu120": 120,
    "pkummd1": 511,
    "pkummd2": 512,
    "msr-action3d": 20,
    "nw-ucla": 1484,
}
FEWEST_FRAMES = 8
HARDEST = 3.0


@dataclass(frozen=True)
class SynthOptions:
    """Dataset name, seed, difficulty from 0 to 3, and the mean length of a clip in frames."""

    dataset: str
    seed: int = 0
    difficulty: float = 1.0
    frames: int = 80

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: seeds start at 0")
        if not 0 <= self.difficulty <= HARDEST:
            raise UsageError(f"--difficulty {self.difficulty}: it must be between 0 and {HARDEST:g}")
        if self.frames < FEWEST_FRAMES:
            raise UsageError(f"--frames {self.frames}: at least {FEWEST_FRAMES} are needed")

    @property
    def number(self) -> int:
        return DATASETS[self.dataset]
