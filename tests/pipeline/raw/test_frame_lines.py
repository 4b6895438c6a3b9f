import json

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.frame_lines import is_frame, read_frame_line
from skelpipe.skeleton import layout

FORM = Form(layout("coco-17"))
V = 17


def line(content: object) -> bytes:
    return json.dumps(content).encode() + b"\n"


def test_every_way_to_write_a_frame() -> None:
    two = np.random.default_rng(2).normal(size=(2, V, 3))
    for content, ids in ((two.tolist(), [0, 1]), ({"bodies": two.tolist(), "ids": [7, 2**60]}, [7, 2**60])):
        found = read_frame_line(line(content), "pipe:1", FORM)
        np.testing.assert_array_equal(found.xyz, two)
        assert (found.counts.tolist(), found.ids.tolist()) == ([2], ids)
    np.testing.assert_array_equal(read_frame_line(line(two[0].tolist()), "pipe:1", FORM).xyz, two[:1])
    for nobody in (None, [], {"bodies": []}):
        assert is_frame(nobody)
        assert read_frame_line(line(nobody), "pipe:1", FORM).counts.tolist() == [0]
    flat = read_frame_line(line(two[:, :, :2].tolist()), "pipe:1", FORM).xyz
    np.testing.assert_array_equal(flat, two * [1, 1, 0])
    assert not is_frame([{"keypoints": []}])
    assert not is_frame({"skeletons": []})


def test_scores_and_joints_that_were_not_found() -> None:
    body = np.arange(V * 3.0).reshape(V, 3).tolist()
    body[4] = [None, None, None]
    form = Form(layout("coco-17"), channels=("x", "y", "score"))
    found = read_frame_line(line([body]), "pipe:1", form)
    assert np.isnan(found.xyz[0, 4]).all()
    assert found.xyz[0, 5].tolist() == [15, 16, 0]
    assert found.scores is not None
    assert found.scores[0, 4:6].tolist() == [0, 17]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([[[1, 2, 3]] * 16], "pipe:9, body 1: 17 joints are expected, found 16"),
        ([[[1, 2, 3]] * 16 + [[1, 2]]], "body 1, joint 17 (right ankle): 3 numbers"),
        ([[["a", 2, 3]] * V], "is no number"),
        ({"bodies": [], "ids": [1]}, "0 bodies have 1 ids"),
        ({"people": []}, "'bodies' is missing"),
        (3, "pipe:9: a list of bodies is expected"),
        ([[[0, 0, 0]] * V] * 300, "300 bodies are more than"),
    ],
)
def test_what_is_no_frame_is_named(content: object, words: str) -> None:
    with pytest.raises(RawError) as caught:
        read_frame_line(line(content), "pipe:9", FORM)
    assert words in str(caught.value)
    assert str(caught.value).startswith("pipe:9")
