"""How a segmenter is trained; options show the defaults, so nothing here imports torch."""

from dataclasses import dataclass

__all__ = ["WINDOW", "SegmenterSettings"]

WINDOW = 64  # frames


@dataclass(frozen=True)
class SegmenterSettings:
    """How a segmenter is trained; docs/segmentation.md says where the defaults come from.

    Every epoch sees `windows` frames of each training video, drawn anew. With `finetune` the encoder is trained
    with the head, in training mode; without, it stays as it is.
    """

    epochs: int = 60
    batch_size: int = 64
    lr: float = 0.01
    milestones: tuple[int, ...] = (40,)
    momentum: float = 0.9
    windows: int = 16
    window: int = WINDOW
    finetune: bool = False
    seed: int = 0
