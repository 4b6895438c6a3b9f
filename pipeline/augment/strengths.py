"""The strengths that recipes give to the normal augmentation; nothing here imports torch."""

from dataclasses import dataclass

from skelpipe.settings import Amount, Count

__all__ = ["AugmentSettings"]


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """The `augment` section: strengths of the normal augmentation, crop and shear."""

    shear: Amount = 0.5
    crop: Count = 6
