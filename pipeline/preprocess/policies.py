"""What is done with bodies, frames and joints that a clip has no room for or that are not there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skelpipe.errors import UsageError
from skelpipe.manifest import BODY_CHOICES, EMPTY_FRAMES, MISSING_JOINTS, Manifest

__all__ = ["AS_AUTHORS", "Policies"]

CHOICES = {"body_choice": BODY_CHOICES, "empty_frames": EMPTY_FRAMES, "missing_joints": MISSING_JOINTS}


@dataclass(frozen=True)
class Policies:
    """The policies of a dataset by the keys of its manifest (docs/own-dataset.md).

    `body_choice`: which bodies of a recording with more than a clip holds. `empty_frames`: what becomes of frames
    that show no body. `missing_joints`: the position of a joint that was not found. Raises UsageError for a policy
    that does not exist. The defaults are the preprocessing of the papers' released code.
    """

    body_choice: str = "first"
    empty_frames: str = "as-authors"
    missing_joints: str = "refused"

    def __post_init__(self) -> None:
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                known = ", ".join(choices)
                raise UsageError(f"{key}: {getattr(self, key)!r} is unknown; there are: {known}")

    @classmethod
    def of(cls, manifest: Manifest) -> "Policies":
        """Return the policies of a manifest."""
        return cls(manifest.body_choice, manifest.empty_frames, manifest.missing_joints)

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> "Policies":
        """Return the policies in a card's options; older cards have none and mean those of the authors."""
        return cls(**{key: options[key] for key in CHOICES if options.get(key)})


AS_AUTHORS = Policies()
