"""What `prepare` has to tell: found, dropped with reason, and what the complete dataset would hold."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skelpipe.card import SAMPLES, read_samples
from skelpipe.manifest import SIDES, Manifest
from skelpipe.plan import Plan, counts
from skelpipe.prepare import Outcome

__all__ = ["plan_report", "preparation_report"]


def preparation_report(manifest: Manifest, out: Path, outcome: Outcome) -> dict[str, Any]:
    """Return counts a side, drops and strangers by reason, and which published recordings are not here."""
    card = outcome.card
    table = read_samples(out / SAMPLES, card["samples"]).select(["id", "note"]).to_pydict()
    kept = {side: card["splits"][side]["samples"] for side in SIDES}
    report = _report(manifest, card["split"], out, kept, card["dropped"], outcome.outside, table["id"])
    notes = {identity: note for identity, note in zip(table["id"], table["note"], strict=True) if note}
    videos = {side: card["untrimmed"][side]["videos"] for side in SIDES} if "untrimmed" in card else None
    return {
        **report,
        "notes": notes,
        "untrimmed": videos,
        "was_complete": outcome.was_complete,
        "digest": card["digest"],
    }


def plan_report(manifest: Manifest, split: str, out: Path, plan: Plan) -> dict[str, Any]:
    """Return the same of a plan, from file names (and label files) alone: no recording has been read."""
    found = [sample.id for sample in plan.samples] + [drop.id for drop in plan.drops]
    dropped = Counter(drop.reason for drop in plan.drops)
    notes = {sample.id: sample.note for sample in plan.samples if sample.note}
    report = _report(manifest, split, out, counts(plan.samples), dropped, plan.outside, found)
    return {**report, "notes": notes, "dry_run": True}


def _report(
    manifest: Manifest,
    split: str,
    out: Path,
    kept: Mapping[str, int],
    dropped: Mapping[str, int],
    outside: Mapping[str, int],
    found: Iterable[str],
) -> dict[str, Any]:
    here = set(found)
    absent = sorted(identity for identity, _ in manifest.expected() if identity not in here)
    published = dict(manifest.split(split).published) or None
    # Without a list of all recordings only their number is known.
    missing = len(absent)
    if published and not manifest.recordings:
        missing = max(0, sum(published.values()) - sum(kept.values()))
    return {
        "out": str(out),
        "split": split,
        **kept,
        "dropped": dict(sorted(dropped.items())),
        "outside": dict(sorted(outside.items())),
        "published": published,
        "absent": missing,
        "unit": "clips" if manifest.segments else "recordings",
        "first_absent": absent[0] if absent else None,
    }
