"""Layouts: the facts of docs/conventions.md about Kinect v2, and the error messages for wrong layout files."""

import copy

import pytest
import yaml

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.skeleton import layout, parse_layout

SWAP = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22]


def test_kinect_v2_facts() -> None:
    kinect = layout("kinect-v2-25")
    assert len(kinect) == 25
    assert kinect.centre == 20
    assert (kinect.left_shoulder, kinect.right_shoulder) == (4, 8)
    assert list(kinect.mirror) == SWAP
    assert [kinect.mirror[v] for v in kinect.mirror] == list(range(25))
    assert len(kinect.edges) == 24
    # parts and levels of docs/conventions.md, counted from 1
    ids = [sorted(v + 1 for v in part) for part in kinect.parts.values()]
    assert ids == [
        [1, 2, 3, 4, 21],
        [5, 6, 7, 8, 22, 23],
        [9, 10, 11, 12, 24, 25],
        [13, 14, 15, 16],
        [17, 18, 19, 20],
    ]
    part = [sorted(v + 1 for v in group) for group in kinect.levels["part"].values()]
    assert part == [
        *([1, 2, 21], [3, 4], [5, 6, 7], [8, 22, 23], [9, 10, 11]),
        *([12, 24, 25], [13, 14], [15, 16], [17, 18], [19, 20]),
    ]
    body = [sorted(v + 1 for v in group) for group in kinect.levels["body"].values()]
    assert body == [
        [5, 6, 7, 8, 22, 23],
        [9, 10, 11, 12, 24, 25],
        [13, 14, 15, 16],
        [17, 18, 19, 20],
        [1, 2, 3, 4, 21],
    ]


BREAKS = {
    "a bone to an unknown joint": (
        lambda c: c["bones"].update({"head": "hat"}),
        "bones names the unknown joint 'hat'",
    ),
    "a ring of bones": (lambda c: c["bones"].update({"neck": "head"}), "do not lead to the centre"),
    "a joint without a bone": (lambda c: c["bones"].pop("left foot"), "'left foot' do not lead to the centre"),
    "a centre with a parent": (
        lambda c: c["bones"].update({"spine shoulder": "neck"}),
        "centre 'spine shoulder' must have no parent",
    ),
    "a joint in two mirror pairs": (lambda c: c["mirror"].append(["left hip", "head"]), "mirror names 'left hip'"),
    "a joint in no part": (
        lambda c: c["parts"]["trunk"].remove("head"),
        "parts must name every joint exactly once",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_wrong_layouts_are_refused(case: str) -> None:
    content = copy.deepcopy(yaml.safe_load(manifests.read_text("layouts", "kinect-v2-25")))
    change, message = BREAKS[case]
    change(content)
    with pytest.raises(UsageError, match=message):
        parse_layout(content)


def test_an_unknown_layout_is_refused_with_a_list() -> None:
    with pytest.raises(UsageError, match="kinect-v2-25"):
        layout("kinect-v9")
