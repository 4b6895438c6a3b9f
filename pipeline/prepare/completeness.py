"""How much of a dataset is real: a summary of its sample table for people and programs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skelpipe.manifest import Manifest

__all__ = ["completeness", "completeness_lines", "score_warning"]

COUNTS = ("frames", "real_frames", "joints", "real_joints")
WORST = 5
FEWEST_LIKE_SCORE = 0.5  # share of clips


def completeness(table: pa.Table, card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how much of the samples in a sample table is real; None for datasets that do not say it.

    `frames` and `joints` are shares of all samples' frames that show a body and of their joints that were found;
    `worst` are the samples with the smallest shares, at most five and only those that miss something.
    `bodies_left_out` is the number of bodies that no clip shows, `clips_with_fewer_bodies` that of the clips they
    are missing from, `body_choice` the rule by which they were chosen.
    """
    if "real_frames" not in table.column_names:
        return None
    clips = table.filter(pc.is_valid(table["shard"])).select(["id", *COUNTS, "bodies_left_out"])
    total = {name: int(pc.sum(clips[name]).as_py() or 0) for name in (*COUNTS, "bodies_left_out")}
    shares = [
        pc.divide(pc.cast(clips[real], pa.float64()), pc.cast(clips[all_], pa.float64()))
        for real, all_ in (("real_frames", "frames"), ("real_joints", "joints"))
    ]
    least = pc.min_element_wise(*shares)
    order = pc.sort_indices(
        pa.table({"share": least, "id": clips["id"]}), [("share", "ascending"), ("id", "ascending")]
    )
    worst = clips.take(order[:WORST]).to_pylist()
    return {
        "frames": _share(total["real_frames"], total["frames"]),
        "joints": _share(total["real_joints"], total["joints"]),
        "worst": [
            {name: row[name] for name in ("id", *COUNTS)}
            for row in worst
            if row["real_frames"] < row["frames"] or row["real_joints"] < row["joints"]
        ],
        "bodies_left_out": total["bodies_left_out"],
        "clips_with_fewer_bodies": int(pc.sum(clips["bodies_left_out"].cast(pa.bool_())).as_py() or 0),
        "bodies": card["shape"][-1],
        "body_choice": card["profile"]["name"]
        if card["profile"]["name"] != "crosclr"
        else card["options"].get("body_choice", "first"),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def completeness_lines(real: Mapping[str, Any] | None) -> Sequence[str]:
    """Return what `completeness` found in lines for people; none where nothing is missing or left out."""
    lines: list[str] = []
    if real is None:
        return lines
    if real["worst"]:
        worst = ", ".join(_worst(row) for row in real["worst"])
        lines.append(
            f"real: {_percent(real['frames'])} of frames, {_percent(real['joints'])} of joints; worst: {worst}"
        )
    if real["bodies_left_out"]:
        count, clips = real["bodies_left_out"], real["clips_with_fewer_bodies"]
        rule = {
            "motion": "those that move most are kept",
            "first": "the first that a frame lists are kept",
        }.get(real["body_choice"], f"chosen by profile {real['body_choice']}")
        lines.append(
            f"bodies: {count:,} left out of {clips:,} clips, which hold {real['bodies']}: {rule} (--bodies,"
            " --body-choice)"
        )
    return lines


def _worst(row: Mapping[str, Any]) -> str:
    if row["real_frames"] * row["joints"] <= row["real_joints"] * row["frames"]:
        return f"{row['id']} {row['real_frames']:,} of {row['frames']:,} frames"
    return f"{row['id']} {row['real_joints']:,} of {row['joints']:,} joints"


def _percent(share: float) -> str:
    """Return a share as text that says 100 % only where nothing is missing."""
    return f"{min(100 * share, 99.9 if share < 1 else 100):.1f} %"


def score_warning(manifest: Manifest, like_score: int, clips: int) -> str | None:
    """Return a warning if in most `clips` the third number of each joint looks like a score, not like z."""
    if not like_score or like_score < FEWEST_LIKE_SCORE * clips:
        return None
    where = "" if like_score >= clips else f" in {like_score:,} of {clips:,} clips"
    write = f"write channels: [x, y, score] into the manifest of {manifest.name}"
    if manifest.imported:
        write = "say --channels x,y,score"
    return (
        f"the third number of each joint lies in 0 to 1{where}, or little above, as scores do: if it is one,"
        f" {write}; it is used as z now"
    )
