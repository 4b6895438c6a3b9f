"""What `prepare` has to tell: found, dropped with reason, and what the complete dataset would hold."""

from pathlib import Path
from typing import Any

from skelpipe.card import SAMPLES, read_samples
from skelpipe.manifest import SIDES, Manifest
from skelpipe.prepare import Outcome

__all__ = ["preparation_report"]


def preparation_report(manifest: Manifest, out: Path, outcome: Outcome) -> dict[str, Any]:
    """Return counts a side, drops and strangers by reason, and which published recordings are not here."""
    card = outcome.card
    found = set(read_samples(out / SAMPLES, card["samples"]).column("id").to_pylist())
    absent = sorted(identity for identity, _ in manifest.expected() if identity not in found)
    return {
        "out": str(out),
        "split": card["split"],
        "was_complete": outcome.was_complete,
        **{side: card["splits"][side]["samples"] for side in SIDES},
        "dropped": card["dropped"],
        "outside": outcome.outside,
        "published": card["published"],
        "absent": len(absent),
        "first_absent": absent[0] if absent else None,
        "digest": card["digest"],
    }
