"""What a manifest says of the arrays in its files."""

from dataclasses import dataclass

from skelpipe.manifest import Manifest
from skelpipe.skeleton import Layout

__all__ = ["Form"]


@dataclass(frozen=True)
class Form:
    """The declared form of a dataset's raw files, for readers whose format leaves it open.

    `bodies` is the number of bodies per clip. `channels` (such as x, y, score) and `axes` (such as `T,V,C`) are
    empty where the manifest does not declare them. `missing_value` is the value that stands for a joint that was
    not found, besides NaN. `array` is the name of the array in files that hold several.
    `image_size` is the width and height of the pictures, for positions that are fractions
    of them.
    If arrays of a fixed length are `padded`, zeros at their end are no frames. `by_options`: messages name options
    of a command, not keys of a manifest.
    """

    layout: Layout
    bodies: int = 1
    channels: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    missing_value: float | None = None
    array: str = ""
    image_size: tuple[int, int] | None = None
    padded: bool = True
    by_options: bool = False

    @classmethod
    def of(cls, manifest: Manifest) -> "Form":
        """Return the form that a manifest declares."""
        return cls(
            manifest.layout,
            manifest.bodies,
            manifest.channels,
            manifest.axes,
            manifest.missing_value,
            manifest.array,
            image_size=manifest.image_size,
            padded=manifest.padded,
        )

    @property
    def joints(self) -> int:
        return len(self.layout)
