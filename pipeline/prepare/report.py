"""The report of `prepare`: clips found, clips dropped and why, and what the complete dataset would hold."""

from collections import Counter
from collections.abc import Mapping, Set
from typing import Any

from skelpipe.dataset.card import SAMPLES, parse_samples
from skelpipe.manifest import BY_ID, SUBSETS, Manifest
from skelpipe.prepare import Outcome
from skelpipe.prepare.completeness import completeness, score_warning
from skelpipe.prepare.plan import Drop, Plan, Sample, counts
from skelpipe.prepare.planner import unmatched_values
from skelpipe.sample_ids import name_of_sample
from skelpipe.storage.filesystem import Filesystem

__all__ = ["plan_report", "preparation_report"]


def preparation_report(manifest: Manifest, out: Filesystem, outcome: Outcome) -> dict[str, Any]:
    """Return counts per subset, dropped and ignored recordings by reason, and missing published recordings."""
    card = outcome.card
    samples = parse_samples(out.read(SAMPLES), card, out)
    table = samples.select(["id", "recording", "note"]).to_pydict()
    recordings = {
        recording or identity for identity, recording in zip(table["id"], table["recording"], strict=True)
    }
    kept = {subset: card["splits"][subset]["samples"] for subset in SUBSETS}
    report = _report(manifest, card["split"], out, kept, card["dropped"], outcome.outside, recordings)
    notes = {identity: note for identity, note in zip(table["id"], table["note"], strict=True) if note}
    videos = {subset: card["untrimmed"][subset]["videos"] for subset in SUBSETS} if "untrimmed" in card else None
    return {
        **report,
        "notes": notes,
        "real": completeness(samples, card),
        "like_score": score_warning(manifest, card.get("like_score", 0), sum(kept.values())),
        "untrimmed": videos,
        "implausible": list(outcome.implausible),
        "was_complete": outcome.was_complete,
        "digest": card["digest"],
    }


def plan_report(manifest: Manifest, split: str, out: Filesystem, plan: Plan) -> dict[str, Any]:
    """Return the same report for a plan, from file names (and label files) only: no recording has been read."""
    clips: list[Sample | Drop] = [*plan.samples, *plan.drops]
    found = {clip.cut.recording if clip.cut else clip.id for clip in clips}
    dropped = Counter(drop.reason for drop in plan.drops)
    notes = {sample.id: sample.note for sample in plan.samples if sample.note}
    report = _report(manifest, split, out, counts(plan.samples), dropped, plan.outside, found)
    return {**report, "notes": notes, "dry_run": True}


def _report(
    manifest: Manifest,
    split: str,
    out: Filesystem,
    kept: Mapping[str, int],
    dropped: Mapping[str, int],
    outside: Mapping[str, int],
    found: Set[str],
) -> dict[str, Any]:
    absent = set(manifest.expected_ids()) - found
    published = dict(manifest.split(split).published) or None
    # Without a grid of all recordings only their number is known.
    missing = len(absent)
    if published and not manifest.recordings:
        missing = sum(max(0, published[subset] - kept[subset]) for subset in SUBSETS)
    too_many = {
        subset: kept[subset] - published[subset]
        for subset in SUBSETS
        if published and kept[subset] > published[subset]
    }
    return {
        "out": str(out),
        "split": split,
        **kept,
        "dropped": dict(sorted(dropped.items())),
        "outside": dict(sorted(outside.items())),
        "published": published,
        "too_many": too_many,
        "unmatched": _unmatched(manifest, split, found),
        "absent": missing,
        "unit": "clips" if manifest.segments else "recordings",
        "first_absent": min(absent, default=None),
    }


def _unmatched(manifest: Manifest, split: str, found: Set[str]) -> list[str]:
    """Return the values in a split's lists that no recording has; they may be typing errors.

    Empty if the grid of recordings is known, since absent recordings are then reported anyway.
    """
    rule = manifest.split(split)
    if manifest.recordings:
        return []
    names = set(map(name_of_sample, found))
    if rule.field != BY_ID:
        return unmatched_values(rule, {(manifest.fields(name) or {}).get(rule.field, "") for name in names})
    return unmatched_values(rule, {*names})
