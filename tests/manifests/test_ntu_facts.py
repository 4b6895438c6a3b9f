"""The NTU manifests against published counts."""

import pytest

from skelpipe.manifest_file import load_manifest
from skelpipe.prepare.plan import counts
from skelpipe.prepare.planner import make_plan
from skelpipe.raw.source import RawFile

# Published counts (docs/profiles.md): kept train/test, then missing train/test.
PUBLISHED = {
    ("ntu60", "xsub"): (40091, 16487, 229, 73),
    ("ntu60", "xview"): (37646, 18932, 274, 28),
    ("ntu120", "xsub"): (63026, 50919, 334, 201),
    ("ntu120", "xset"): (54468, 59477, 252, 283),
}


@pytest.mark.parametrize(("dataset", "split"), PUBLISHED)
def test_counts_by_name_equal_the_published_counts(dataset: str, split: str) -> None:
    """All 114,480 names of NTU RGB+D 120 in random order; NTU RGB+D 60 ignores the setups that 120 adds."""
    ntu120, manifest = load_manifest("ntu120"), load_manifest(dataset)
    names = {name for name, _ in ntu120.expected()} | ntu120.missing
    assert len(names) == 114480
    files = [RawFile(f"{name}.skeleton", f"raw/{name}.skeleton", 1) for name in names]
    plan = make_plan(manifest, split, files, skip_bad=False)
    kept, dropped = counts(plan.samples), counts(plan.drops)
    assert (kept["train"], kept["test"], dropped["train"], dropped["test"]) == PUBLISHED[dataset, split]
    published = manifest.splits[split].published
    assert (published["train"], published["test"]) == PUBLISHED[dataset, split][:2]
    assert sum(plan.outside.values()) == 114480 - sum(PUBLISHED[dataset, split])
    assert [sample.id for sample in plan.samples] == sorted(sample.id for sample in plan.samples)


def test_training_clips_per_class_of_ntu60_equal_the_published_range() -> None:
    """Training clips per class of NTU RGB+D 60 xsub range from 632 to 672."""
    manifest = load_manifest("ntu60")
    split = manifest.splits["xsub"]
    per_class = [0] * 60
    assert list(manifest.expected_ids()) == [name for name, _ in manifest.expected()]
    for _, fields in manifest.expected():
        per_class[fields["action"] - 1] += split.subset(fields) == "train"
    assert (min(per_class), max(per_class)) == (632, 672)


def test_class_names_are_in_label_order() -> None:
    names = load_manifest("ntu120").classes
    assert len(names) == 120
    assert load_manifest("ntu60").classes == names[:60]
    assert names[0] == "drink water"
    assert names[49].startswith("punch")  # A050


def test_missing_list() -> None:
    missing = load_manifest("ntu120").missing
    assert len(missing) == 535
    assert sum(int(name[1:4]) <= 17 for name in missing) == 302
    assert "S001C002P005R002A008" in missing
