"""The PKU-MMD and MSR Action3D manifests: counts by name, class lists, layouts."""

import pytest

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare.plan import counts
from skelpipe.prepare.planner import make_plan
from skelpipe.raw.source import RawFile
from skelpipe.skeleton import layout


def by_subset(dataset: str, split: str, names: list[str]) -> dict[str, list[str]]:
    manifest = load_manifest(dataset)
    found: dict[str, list[str]] = {"train": [], "test": []}
    for name in names:
        fields = manifest.fields(name)
        assert fields is not None, name
        assert manifest.outside(fields) is None
        found[manifest.split(split).subset(fields, name)].append(name)
    return found


def test_pku_part_1_cross_subject() -> None:
    """Videos 0291 to 0334, three views each, are for testing: 132 as published; all others are for training."""
    names = [f"{video:04}-{view}" for video in range(2, 365) for view in "LMR"]
    found = by_subset("pkummd1", "xsub", names)
    assert found["test"] == [f"{video:04}-{view}" for video in range(291, 335) for view in "LMR"]
    assert len(found["test"]) == 132
    # 1,076 videos exist, 944 of them for training; 13 names between the first and the last have no video
    assert len(found["train"]) == 944 + 13
    published = load_manifest("pkummd1").split("xsub").published
    assert published == {"train": 18841, "test": 2704}
    assert sum(published.values()) == 21545


def test_part_1_cross_view_from_the_downloads_lists() -> None:
    """The published 717 / 359 of 1,076 videos, whichever of the three views a split file holds out."""
    names = [f"{video:04}-{view}" for video in range(2, 361) for view in "LMR"][:1076]
    train = frozenset(name for name in names if name[-1] != "L")
    manifest = load_manifest("pkummd1").with_split_file("xview", train, frozenset(names) - train)
    rule = manifest.split("xview")
    found = [rule.subset(manifest.fields(name), name) for name in names]
    assert (found.count("train"), found.count("test")) == (717, 359)
    assert sum(rule.published.values()) == 21545


@pytest.mark.parametrize(
    ("dataset", "split", "file"),
    [
        ("pkummd1", "xview", "cross-view.txt"),
        ("pkummd2", "xsub", "cross_subject_v2.txt"),
        ("pkummd2", "xview", "cross_view_v2.txt"),
    ],
)
def test_a_split_whose_lists_are_not_built_in_needs_a_file(dataset: str, split: str, file: str) -> None:
    with pytest.raises(UsageError, match=file.replace(".", r"\.")):
        load_manifest(dataset).split(split)


def test_pku_names() -> None:
    part2 = load_manifest("pkummd2")
    assert part2.fields("A26N13-R") == {"sequence": 26, "subject": 13, "camera": "R"}
    assert part2.fields("0002-L") is None
    assert load_manifest("pkummd1").fields("0364-M") == {"video": 364, "camera": "M"}
    assert load_manifest("pkummd1").classes == part2.classes
    assert len(part2.classes) == 51
    assert list(part2.classes) == sorted(part2.classes)  # the published list is alphabetical


def test_msr_cross_subject() -> None:
    """Odd subjects are for training; of all 20 x 10 x 3 names only the one without a skeleton is dropped."""
    manifest = load_manifest("msr-action3d")
    names = [f"a{a:02}_s{s:02}_e{e:02}" for a in range(1, 21) for s in range(1, 11) for e in range(1, 4)]
    files = [RawFile(f"{name}_skeleton3D.txt", f"raw/{name}_skeleton3D.txt", 1) for name in names]
    plan = make_plan(manifest, "xsub", files, skip_bad=False)
    assert counts(plan.samples) == {"train": 299, "test": 300}
    assert [drop.id for drop in plan.drops] == ["a13_s09_e02"]
    assert {sample.fields["subject"] for sample in plan.samples if sample.subset == "train"} == {1, 3, 5, 7, 9}
    assert len(manifest.classes) == 20


def test_northwestern_ucla_cross_view() -> None:
    """Cameras 1 and 2 are for training; class numbers in names have gaps at 7 and 10 (Wang et al. 2014)."""
    manifest = load_manifest("nw-ucla")
    numbers = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
    found = by_subset("nw-ucla", "xview", [f"a{n:02}_s10_e00_v{view:02}" for n in numbers for view in (1, 2, 3)])
    assert {name[-1] for name in found["train"]} == {"1", "2"}
    assert {name[-1] for name in found["test"]} == {"3"}
    fields = manifest.fields("a01_s01_e00_v01")
    assert [manifest.class_of({**fields, "action": number}) for number in range(14)] == [
        *(None, 0, 1, 2, 3, 4, 5, None, 6, 7, None, 8, 9, None)
    ]
    assert manifest.classes == (
        *("pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down", "stand up"),
        *("donning", "doffing", "throw", "carry"),
    )
    published = manifest.split("xview").published
    assert published == {"train": 1020, "test": 464}
    assert sum(published.values()) == 1484


@pytest.mark.parametrize("name", manifests.names("layouts"))
def test_layouts_are_consistent(name: str) -> None:
    """A tree over all joints; exchanging left and right keeps bones and parts."""
    body = layout(name)
    assert len(body.edges) == len(body) - 1
    assert [body.mirror[v] for v in body.mirror] == list(range(len(body)))
    for v, joint in enumerate(body.joints):
        other = body.joints[body.mirror[v]]
        assert other == joint.replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")
        assert body.parents[body.mirror[v]] == body.mirror[body.parents[v]]
    assert len(body.parts) == 5
    for groups in (body.parts, *body.levels.values()):
        mirrored = {frozenset(body.mirror[v] for v in group) for group in groups.values()}
        assert mirrored == {frozenset(group) for group in groups.values()}
