"""Ultralytics' predictions, written here by hand as `Results.save_txt` and `Results.to_json` have them."""

import numpy as np
import pytest

from skelpipe.errors import RawError

SIZE = (640, 480)
PIXELS = np.random.default_rng(1).uniform([1, 1], SIZE, (17, 2)).round(3)


def row(points: np.ndarray, *after: float, scores: bool = True) -> str:
    """A row of save_txt: class, box, the points as fractions, then confidence and id."""
    parts = np.column_stack([points / SIZE, np.full(17, 0.75)] if scores else [points / SIZE])
    return " ".join(f"{value:.9g}" for value in (0, 0.5, 0.5, 0.2, 0.4, *parts.reshape(-1), *after))


@pytest.mark.parametrize("scores", [True, False])
@pytest.mark.parametrize(("after", "identity"), [((), 0), ((0.91,), 0), ((7,), 7), ((0.91, 7), 7)])
def test_rows(read_poses, scores: bool, after: tuple, identity: int) -> None:
    """With `save_conf` a confidence follows the joints, with tracking an id."""
    channels = ("x", "y", "score") if scores else ("x", "y")
    recording = read_poses(
        "ultralytics", row(PIXELS, *after, scores=scores), "coco-17", image_size=SIZE, channels=channels
    )
    assert recording.ids.tolist() == [identity]
    np.testing.assert_allclose(recording.xyz[0, :, :2], PIXELS, rtol=1e-6)
    assert recording.scores is None if not scores else (recording.scores == 0.75).all()


def test_a_joint_in_the_corner_was_not_found(read_poses) -> None:
    points = PIXELS.copy()
    points[4] = 0
    recording = read_poses("ultralytics", row(points), "coco-17", image_size=SIZE)
    assert np.flatnonzero(np.isnan(recording.xyz[0, :, 0])).tolist() == [4]
    assert recording.scores[0, 4] == 0


def person(points: np.ndarray, **more) -> dict:
    keypoints = {"x": points[:, 0].tolist(), "y": points[:, 1].tolist(), "visible": [0.5] * 17}
    box = {"x1": 1, "y1": 1, "x2": 9, "y2": 9}
    return {"name": "person", "class": 0, "confidence": 0.9, "box": box, "keypoints": keypoints, **more}


@pytest.mark.parametrize("fractions", [False, True])
def test_json_of_a_frame(read_poses, fractions: bool) -> None:
    content = [person(PIXELS / SIZE if fractions else PIXELS, track_id=3)]
    recording = read_poses("ultralytics", content, "coco-17", image_size=SIZE)
    np.testing.assert_allclose(recording.xyz[0, :, :2], PIXELS)
    assert recording.ids.tolist() == [3]
    assert (recording.scores == 0.5).all()


def test_json_of_a_video(read_poses) -> None:
    recording = read_poses("ultralytics-video", [[person(PIXELS)], [], [person(PIXELS + 1)]], "coco-17")
    assert recording.counts.tolist() == [1, 0, 1]
    np.testing.assert_allclose(recording.xyz[1, :, :2], PIXELS + 1)


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        ("ultralytics", "0 0.5 0.5 0.1 0.1 0.3 0.4", r":1: 56 numbers .* or 39 without scores; found 7"),
        ("ultralytics", row(PIXELS).replace("0.75", "high", 1), r":1, column 8: 'high' is no number"),
        ("ultralytics", row(PIXELS).replace("0.75", "inf", 1), r":1, column 8: inf is not finite"),
        ("ultralytics", f"{row(PIXELS)}\n{row(PIXELS, scores=False)}", r": some rows have scores"),
        ("ultralytics", row(PIXELS), r": its positions are fractions of the picture's width and height"),
        ("ultralytics", row(PIXELS, scores=False), r": holds no scores: leave 'score' out of the .*channels"),
        ("ultralytics", [person(PIXELS) | {"keypoints": {"x": [1], "y": [1]}}], r": person 1, x: 17 numbers"),
        ("ultralytics", [person(PIXELS) | {"keypoints": 4}], r": person 1: an object with 'x' is expected"),
        ("ultralytics-video", [person(PIXELS)], r": a list of people, those of one frame: the reader ultralytics"),
        ("ultralytics-video", [[person(PIXELS)], 5], r": frame 2: a list is expected, found 5"),
    ],
)  # fmt: skip
def test_damage_is_named(read_poses, reader: str, content, message: str) -> None:
    with pytest.raises(RawError, match=rf"^a\.json{message}"):
        read_poses(reader, content, "coco-17")
