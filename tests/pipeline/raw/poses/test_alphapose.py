"""AlphaPose's results, written here by hand as its documentation and `write_json` have them."""

import numpy as np
import pytest

from skelpipe.errors import RawError


def keypoints(offset: float, joints: int = 17) -> list[float]:
    """Joint v at (offset + v, 2 v), with a score of v / 10: above 1, as AlphaPose writes them."""
    return [value for v in range(joints) for value in (offset + v, 2.0 * v, v / 10)]


def entry(image: object, offset: float, **more) -> dict:
    return {"image_id": image, "category_id": 1, "keypoints": keypoints(offset), "score": 2.9, **more}


def test_frames_are_ordered_by_number_and_gaps_are_empty(read_poses) -> None:
    content = [entry("10.jpg", 300), entry("9.jpg", 200), entry("7.jpg", 100)]
    recording = read_poses("alphapose", content, "coco-17")
    assert recording.counts.tolist() == [1, 0, 1, 1]  # frames 7 to 10
    v = np.arange(17)
    assert recording.xyz[:, 0, 0].tolist() == [100, 200, 300]
    np.testing.assert_array_equal(recording.xyz[0], np.stack([100 + v, 2 * v, 0 * v], axis=1))
    np.testing.assert_allclose(recording.scores[0], v / 10)


@pytest.mark.parametrize("names", [["a_0001.png", "a_0002.png"], [1, 2], ["cam2_1.jpg", "cam2_2.jpg"]])
def test_names_of_pictures(read_poses, names: list) -> None:
    recording = read_poses("alphapose", [entry(names[1], 2), entry(names[0], 1)], "coco-17")
    assert recording.xyz[:, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("wrap", [lambda i: i, float, lambda i: [i]])
def test_people_keep_their_idx(read_poses, wrap) -> None:
    content = [
        entry("0.jpg", 10, idx=wrap(5)),
        entry("0.jpg", 900, idx=wrap(2)),
        entry("1.jpg", 900, idx=wrap(5)),
        entry("2.jpg", 10, idx=wrap(2)),
        entry("2.jpg", 900, idx=wrap(5)),
    ]
    recording = read_poses("alphapose", content, "coco-17")
    assert recording.counts.tolist() == [2, 1, 2]
    assert recording.ids.tolist() == [5, 2, 5, 5, 2]
    assert recording.xyz[:, 0, 0].tolist() == [10, 900, 900, 900, 10]


def test_without_idx_people_are_followed(read_poses) -> None:
    content = [entry(f"{t}.jpg", x) for t, row in enumerate([(10, 900), (901, 11), (902,)]) for x in row]
    recording = read_poses("alphapose", content, "coco-17")
    assert recording.counts.tolist() == [2, 2, 2]
    assert recording.ids.tolist() == [0, 1] * 3
    assert recording.xyz[:, 0, 0].tolist() == [10, 900, 11, 901, 0, 902]  # absent: zeros in its slot
    assert not recording.scores[4].any()


@pytest.mark.parametrize(("people", "key"), [("people", "pose_keypoints_2d"), ("bodies", "joints")])
def test_formats_open_and_cmu(read_poses, people: str, key: str) -> None:
    wrapped = {"version": "AlphaPose v0.3", people: [{key: keypoints(50, 18)}]}
    content = {"3.jpg": wrapped, "5.jpg": {"version": "AlphaPose v0.3", people: []}}
    recording = read_poses("alphapose", content, "openpose-18")
    assert recording.counts.tolist() == [1, 0, 0]
    assert recording.xyz[0, :, 0].tolist() == [50 + v for v in range(18)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"people": []}, r"holds the people of one frame: the reader openpose reads one file per frame"),
        ([7], r"entry 1: an object with 'image_id' is expected, found 7"),
        ([entry("a.jpg", 0)], r"entry 1 \(a\.jpg\): 'a\.jpg' holds no number of a frame"),
        ([entry("a_1.jpg", 0), entry("b_1.jpg", 0)], r"entry 2 .*'a_1\.jpg' and 'b_1\.jpg' have the same number"),
        ([entry("1.jpg", 0) | {"keypoints": [1, 2]}], r"entry 1 \(1\.jpg\): 51 numbers .*found 2"),
        ([entry("1.jpg", 0, idx="one")], r"entry 1 \(1\.jpg\): idx: a whole number is expected"),
        ([entry("1.jpg", 0, idx=4), entry("1.jpg", 9, idx=4)], r"frame 1: two people have the id 4"),
        ([entry("0.jpg", 0), entry("99999999999.jpg", 0)], r"from 0 to 99999999999: too many for one recording"),
        ({"1.jpg": 3}, r"'1\.jpg': an object with 'people' or 'bodies' is expected"),
    ],
)
def test_damage_is_named(read_poses, content, message: str) -> None:
    with pytest.raises(RawError, match=rf"^a\.json: .*{message}"):
        read_poses("alphapose", content, "coco-17")


def test_tokens_of_python(read_poses) -> None:
    """NaN is a joint that was not found, Infinity is damage, as in arrays."""
    text = '[{"image_id": "1.jpg", "keypoints": [%s]}]'
    numbers = [str(one) for one in keypoints(5)]
    recording = read_poses("alphapose", text % ", ".join(["NaN", *numbers[1:]]), "coco-17")
    assert np.isnan(recording.xyz[0, 0]).all()
    assert recording.scores[0, 0] == 0
    with pytest.raises(RawError, match=r"entry 1 \(1\.jpg\), joint 1 \(nose\): .*not finite"):
        read_poses("alphapose", text % ", ".join(["Infinity", *numbers[1:]]), "coco-17")
