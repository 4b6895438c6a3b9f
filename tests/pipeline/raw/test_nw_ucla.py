"""The reader of Northwestern-UCLA JSON, against arrays that the test writes, damage, and the real clips."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli import main as skelpipe
from skelpipe.dataset import Dataset
from skelpipe.errors import RawError
from skelpipe.raw.nw_ucla import read_nw_ucla

GIVEN = np.random.default_rng(0).normal(size=(3, 20, 3)).round(6)


def written(skeletons, **more) -> str:
    return json.dumps({"file_name": "a01_s01_e00_v01", "skeletons": skeletons, "label": 1, **more})


def read(content: str | bytes):
    content = content.encode() if isinstance(content, str) else content
    return read_nw_ucla(np.frombuffer(content + b"\n", np.uint8), "a.json")


@pytest.mark.parametrize(
    "change", [lambda text: text, lambda text: "\ufeff" + text.replace(",", ",\r\n") + "\r\n"]
)
def test_reads_what_was_written(change) -> None:
    """Also with a byte order mark and Windows line ends."""
    recording = read(change(written(GIVEN.tolist())))
    assert np.array_equal(recording.xyz, GIVEN)
    assert (recording.counts.tolist(), recording.ids.tolist(), recording.scores) == ([1, 1, 1], [0, 0, 0], None)


def test_whole_numbers_are_numbers() -> None:
    assert read(written(np.arange(60).reshape(1, 20, 3).tolist())).xyz[0, 19].tolist() == [57, 58, 59]


def test_a_frame_at_the_origin_shows_nobody() -> None:
    given = GIVEN.copy()
    given[1] = 0
    recording = read(written(given.tolist()))
    assert recording.counts.tolist() == [1, 0, 1]
    assert np.array_equal(recording.xyz, given[[0, 2]])


def test_a_joint_that_is_nan_was_not_found() -> None:
    given = GIVEN.copy()
    given[1, 7] = np.nan
    recording = read(written(given.tolist()))
    assert recording.counts.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(recording.xyz, given)


def changed(frame: int, joint: int | None, value):
    frames = GIVEN.tolist()
    if joint is None:
        frames[frame] = value
    else:
        frames[frame][joint] = value
    return written(frames)


DAMAGES = {
    "empty": ("", r"the file is empty"),
    "cut off": (written(GIVEN.tolist())[:200], r"\(cut off in download\?\)"),
    "no JSON": ("1.0 2.0 3.0 4.0\n", r"a\.json:1: is no JSON: Extra data, column 5"),
    "NUL bytes": ("\0" * 400, r"holds 400 NUL bytes"),
    "a list": ("[1, 2]", r"an object with 'skeletons' is expected, found \[1, 2\]"),
    "another object": ('{"people": []}', r"the key 'skeletons' is missing"),
    "a key twice": ('{"skeletons": [], "skeletons": []}', r"the key 'skeletons' is given twice"),
    "no frame": (written([]), r"skeletons holds no frame"),
    "no list": (written("none"), r"skeletons: a list of frames is expected, found 'none'"),
    "a missing joint": (
        changed(1, None, GIVEN[1, :-1].tolist()),
        r"frame 2: 20 joints are expected, found 19 joints",
    ),
    "a frame that is none": (changed(2, None, 7), r"frame 3: 20 joints are expected, found 7"),
    "two numbers": (changed(1, 4, [1.0, 2.0]), r"frame 2, joint 5: 3 numbers are expected, found \[1\.0, 2\.0\]"),
    "a joint that is none": (changed(1, 4, None), r"frame 2, joint 5: 3 numbers are expected, found nothing"),
    "a text": (changed(2, 19, [1.0, "2.0", 3.0]), r"frame 3, joint 20: '2\.0' is not a number"),
    "true": (changed(0, 0, [True, 1.0, 1.0]), r"frame 1, joint 1: True is not a number"),
    "null": (changed(0, 0, [1.0, None, 1.0]), r"frame 1, joint 1: nothing is not a number"),
    "infinite": (
        changed(0, 0, [1.0, float("-inf"), 1.0]),
        r"frame 1, joint 1: \[1\.0, -inf, 1\.0\] .* not finite",
    ),
    "beyond floats": (
        changed(0, 0, [0, 7e7, 0]).replace("70000000.0", "1e999"),
        r"frame 1, joint 1: .* not finite",
    ),
    "a huge integer": (changed(0, 0, [10**400, 0, 0]), r"a whole number is too large"),
    "nested": ("[" * 200_000, r"nested too deeply"),
    "Latin-1": (
        written(GIVEN.tolist(), who="\xe9").replace("\\u00e9", "\xe9").encode("latin-1"),
        r"is no UTF-8 text",
    ),
    "nobody": (written(np.zeros((4, 20, 3)).tolist()), r"no body in any of its 4 frames"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_named(case: str) -> None:
    content, message = DAMAGES[case]
    with pytest.raises(RawError, match=r"^a\.json:") as raised:
        read(content)
    assert raised.match(message)


def test_the_real_clips_from_their_zip(shared: Path, tmp_path) -> None:
    """All that are published; people upright, left and right as they are; nearest neighbours are right at 56 %."""
    options = ["--dataset", "nw-ucla", "--split", "xview", "--raw", shared / "data" / "nw_ucla" / "all_sqe.zip"]
    words = ["prepare", *options, "--out", tmp_path / "ds", "--frames", "48", "--workers", "1"]
    result = CliRunner().invoke(skelpipe, list(map(str, words)))
    assert result.exit_code == 0, result.output
    assert "1,020 training and 464 test clips are published: complete" in result.stdout
    assert "Warning" not in result.stderr
    dataset = Dataset.open(tmp_path / "ds")
    clips, labels = {}, {}
    for subset, count in (("train", 1020), ("test", 464)):
        assert dataset.count(subset) == count
        assert {identity[-1] for identity in dataset.ids(subset)} == ({"1", "2"} if subset == "train" else {"3"})
        clips[subset], labels[subset] = (
            dataset.reader(subset, "joint").gather(np.arange(count)),
            dataset.labels(subset),
        )
    assert sorted(set(labels["train"].tolist())) == list(range(10))
    height = {joint: clips["train"][:, 1, :, v, 0].mean() for v, joint in enumerate(dataset.layout.joints)}
    assert height["head"] > height["spine"] > height["hip centre"] > height["left knee"] > height["left foot"]
    thrown = clips["train"][labels["train"] == dataset.classes.index("throw"), 1, :, :, 0].max(axis=1)
    right, left = (thrown[:, dataset.layout.joints.index(f"{side} hand")].mean() for side in ("right", "left"))
    assert right > left + 0.1  # most people throw with their right hands
    flat = {subset: of.reshape(len(of), -1) for subset, of in clips.items()}
    flat = {subset: rows / np.linalg.norm(rows, axis=1, keepdims=True) for subset, rows in flat.items()}
    found = labels["train"][(flat["test"] @ flat["train"].T).argmax(axis=1)]
    assert 0.55 < (found == labels["test"]).mean() < 0.57


@pytest.mark.parametrize("spelling", ["nan", "-nan(ind)", "1.#QNAN", "-1.#IND00", "NaN"])
def test_every_spelling_of_nan_is_one(spelling: str) -> None:
    joints = [f"[{j}, 1, {spelling if j == 7 else 2}]" for j in range(20)]
    content = f'{{"file_name": "a, nan, b", "skeletons": [[{", ".join(joints)}]]}}'
    got = read_nw_ucla(np.frombuffer(content.encode() + b"\n", np.uint8), "x").xyz
    assert np.isnan(got[0, 7, 2])
    assert np.isfinite(np.delete(got, 7, axis=1)).all()
