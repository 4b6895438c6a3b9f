"""`prepare` with a user's own manifest: readers, layouts, splits by field and list, and every error message."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.dataset.verify import damages
from skelpipe.errors import RawError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.models.graph import adjacency
from skelpipe.prepare import Options, prepare
from skelpipe.views import derive

GYM: dict[str, Any] = {
    "name": "gym",
    "title": "Exercises in our gym",
    "reader": "npy",
    "layout": "coco-17",
    "bodies": 1,
    "name_pattern": r"(?P<subject>[a-z]+)-(?P<day>\d+)-(?P<action>[a-z]+)",
    "suffix": ".npy",
    "classes": ["squat", "lunge", "row"],
    "splits": {
        "xsub": {"field": "subject", "train": ["ada", "bob"]},
        "days": {"field": "day", "test": [2]},
        "official": {"field": "id", "train": {"file": "train.txt"}, "test": ["cy-1-row"]},
    },
    "terms": "Ours.",
}
STICK = {
    "joints": ["hip", "chest", "l", "r"],
    "centre": "chest",
    "shoulders": {"left": "l", "right": "r"},
    "bones": {"hip": "chest", "l": "chest", "r": "chest"},
    "mirror": [["l", "r"]],
    "parts": {"trunk": ["hip", "chest"], "arms": ["l", "r"]},
}


@pytest.fixture
def gym(tmp_path: Path) -> Path:
    """A folder with manifest, lists and twelve 2D recordings of three people."""
    (tmp_path / "gym.yaml").write_text(yaml.safe_dump(GYM, sort_keys=False))
    (tmp_path / "train.txt").write_text("ada-1-squat\nbob-2-row\n\n")
    (tmp_path / "raw").mkdir()
    rng = np.random.default_rng(5)
    for subject in ("ada", "bob", "cy"):
        for day in (1, 2):
            for action in ("squat", "row"):
                poses = rng.normal(size=(17, 2)) + rng.normal(0, 0.05, (20 + day, 17, 2)).cumsum(axis=0)
                np.save(tmp_path / "raw" / f"{subject}-{day}-{action}.npy", poses.astype(np.float32))
    return tmp_path


def changed(folder: Path, **changes: Any) -> str:
    """Write the manifest with some keys changed; `...` removes a key."""
    content = {key: value for key, value in {**copy.deepcopy(GYM), **changes}.items() if value is not ...}
    (folder / "gym.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return str(folder / "gym.yaml")


def test_2d_poses_become_a_dataset(gym) -> None:
    manifest = load_manifest(str(gym / "gym.yaml"))
    card = prepare(manifest, [gym / "raw"], gym / "ds", Options("xsub", frames=8, bodies=1), quiet=True).card
    dataset = Dataset.open(gym / "ds")
    assert dataset.shape == (3, 8, 17, 1)
    assert dataset.classes == ("squat", "lunge", "row")
    assert (dataset.count("train"), dataset.count("test")) == (8, 4)
    assert dataset.ids("test") == ["cy-1-row", "cy-1-squat", "cy-2-row", "cy-2-squat"]
    assert dataset.labels("test").tolist() == [2, 0, 2, 0]
    assert card["published"] == {}
    rows = {row["id"]: row for row in pq.read_table(gym / "ds" / "samples.parquet").to_pylist()}
    assert (rows["cy-1-row"]["subject"], rows["cy-1-row"]["day"], rows["cy-1-row"]["frames"]) == ("cy", 1, 21)
    clip = dataset.reader("test", "joint").gather(np.arange(1))
    assert np.abs(clip[:, 1]).max() > 0.1
    # what depends on the layout: the bones and the graph
    bones = dataset.reader("test", "bone").gather(np.arange(1))
    assert np.array_equal(bones, derive(clip, "bone", dataset.layout))
    assert np.array_equal(bones[0, :, :, 15], clip[0, :, :, 15] - clip[0, :, :, 13])  # ankle minus knee
    assert adjacency(dataset.layout, "stgcn_full").shape == (3, 17, 17)
    assert damages(dataset, quiet=True) == []
    # poses without depth are centred and resized, not turned
    raw = np.load(gym / "raw" / "cy-1-row.npy").astype(np.float64)
    at = np.clip((np.arange(8) + 0.5) * 21 / 8 - 0.5, 0, 20)
    centred = (raw - raw[:, :1]).reshape(21, -1)
    expected = np.stack([np.interp(at, np.arange(21), column) for column in centred.T]).T.reshape(8, 17, 2)
    np.testing.assert_allclose(clip[0, :2, :, :, 0], expected.transpose(2, 0, 1), atol=1e-6)
    assert not clip[0, 2].any()


def test_splits_by_field_and_by_list(gym) -> None:
    manifest = load_manifest(str(gym / "gym.yaml"))
    for split, train, test in (("days", 6, 6), ("official", 2, 1)):
        outcome = prepare(manifest, [gym / "raw"], gym / split, Options(split, frames=8, bodies=1), quiet=True)
        counts = {subset: outcome.card["splits"][subset]["samples"] for subset in ("train", "test")}
        assert counts == {"train": train, "test": test}
    assert outcome.outside == {"on neither list of the split": 9}


def test_numbers_in_names_of_any_size(gym) -> None:
    for path in sorted((gym / "raw").glob("*.npy")):
        path.rename(path.with_stem(f"{path.stem}-1700000000123"))
    pattern = GYM["name_pattern"] + r"-(?P<milliseconds>\d+)"
    manifest = load_manifest(changed(gym, name_pattern=pattern, splits={"days": GYM["splits"]["days"]}))
    prepare(manifest, [gym / "raw"], gym / "ds", Options("days", frames=8, bodies=1), quiet=True)
    table = pq.read_table(gym / "ds" / "samples.parquet").to_pydict()
    assert set(table["milliseconds"]) == {"1700000000123"}
    assert sorted(table["day"]) == [1] * 6 + [2] * 6


def test_a_layout_of_the_user_with_another_reader(tmp_path) -> None:
    """Four joints in the text format of MSR Action3D: 4 lines per frame, `x y z confidence`."""
    rng = np.random.default_rng(2)
    (tmp_path / "raw").mkdir()
    for number in (1, 2, 3):
        lines = [" ".join(f"{v:.4f}" for v in (*joint, 1)) for joint in rng.normal(size=(40, 3))]
        (tmp_path / "raw" / f"p{number}_a0.txt").write_text("\n".join(lines))
    content = {
        **{"name": "stick", "reader": "msr-text", "layout": STICK, "suffix": ".txt", "first_label": 0},
        **{"name_pattern": r"p(?P<subject>\d)_a(?P<action>\d)", "classes": ["wave"]},
        "splits": {"xsub": {"field": "subject", "train": [1, 2]}},
    }
    (tmp_path / "stick.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    manifest = load_manifest(str(tmp_path / "stick.yml"))
    prepare(manifest, [tmp_path / "raw"], tmp_path / "ds", Options("xsub", frames=5, bodies=1), quiet=True)
    dataset = Dataset.open(tmp_path / "ds")
    assert dataset.shape == (3, 5, 4, 1)
    assert dataset.layout.name == "stick"
    assert dataset.layout.mirror == (0, 1, 3, 2)
    assert list(dataset.layout.parts.values()) == [(0, 1), (2, 3)]
    assert dataset.labels("train").tolist() == [0, 0]


STRANGERS = {
    "an unknown class": ("ada-1-jump", "its name says class 'jump'; the dataset's are squat, lunge, row"),
    "another pattern": ("Ada_1", "is no recording's name"),
}


def test_what_the_files_hold_is_read_from_the_manifest(gym) -> None:
    keys = {"axes": "m, t, v, c", "channels": ["Confidence", "x", "y"], "bodies": 40, "missing_value": -1}
    manifest = load_manifest(changed(gym, **keys, missing_joints="parent", empty_frames="held"))
    assert (manifest.axes, manifest.channels) == (("M", "T", "V", "C"), ("score", "x", "y"))
    assert (manifest.bodies, manifest.missing_value) == (40, -1.0)
    assert (manifest.body_choice, manifest.empty_frames, manifest.missing_joints) == ("motion", "held", "parent")
    assert manifest.stored_channels == ("x", "y", "z", "score")
    plain = load_manifest(changed(gym))
    assert (plain.body_choice, plain.empty_frames, plain.missing_joints) == ("motion", "dropped", "refused")
    assert plain.stored_channels == ("x", "y", "z")
    assert plain.definition("xsub") != manifest.definition("xsub")
    ntu = load_manifest("ntu60")
    assert (ntu.body_choice, ntu.empty_frames, ntu.missing_joints) == ("first", "as-authors", "refused")


@pytest.mark.parametrize("name", ["score", "confidence", "conf", "visibility", "probability", "Prob"])
def test_names_of_a_score(gym, name: str) -> None:
    assert load_manifest(changed(gym, channels=["x", "y", name])).channels == ("x", "y", "score")


@pytest.mark.parametrize("case", STRANGERS)
def test_names_that_do_not_fit(gym, case) -> None:
    name, message = STRANGERS[case]
    np.save(gym / "raw" / f"{name}.npy", np.ones((3, 17, 2)))
    manifest = load_manifest(
        changed(gym, name_pattern=r"(?P<subject>[a-z]+)-(?P<day>\d+)-(?P<action>[a-z]+)(\.v\d)?")
    )
    with pytest.raises(RawError, match=message):
        prepare(manifest, [gym / "raw"], gym / "ds", Options("xsub", frames=8, bodies=1), quiet=True)
    options = Options("xsub", frames=8, bodies=1)
    card = prepare(manifest, [gym / "raw"], gym / "ds", options, quiet=True, skip_bad=True).card
    assert sum(card["dropped"].values()) == 1


def test_numbers_of_classes_with_gaps(gym) -> None:
    """Labels count the classes in the order of their numbers, which `classes` maps; other numbers have none."""
    pattern = r"(?P<subject>[a-z]+)-(?P<day>\d+)-(?P<action>\d+)"
    manifest = load_manifest(changed(gym, name_pattern=pattern, classes={8: "throw", 1: "sit", 12: "carry"}))
    assert manifest.classes == ("sit", "throw", "carry")
    found = {
        number: manifest.class_of(manifest.fields(f"ada-1-{number:02}")) for number in (0, 1, 2, 8, 9, 12, 13)
    }
    assert found == {0: None, 1: 0, 2: None, 8: 1, 9: None, 12: 2, 13: None}
    other = load_manifest(changed(gym, name_pattern=pattern, classes={2: "sit", 8: "throw", 12: "carry"}))
    assert manifest.definition("days") != other.definition("days")


def wrong(**changes: Any) -> dict[str, Any]:
    return changes


MISTAKES = {
    "a missing key": (wrong(classes=...), "gym.yaml: the key 'classes' is missing"),
    "a typing error": (wrong(clases=["a"]), "gym.yaml: unknown key 'clases'; did you mean 'classes'?"),
    "an unknown reader": (
        wrong(reader="c3d"),
        "gym.yaml: reader: there is no reader 'c3d'; there are: ntu-skele",
    ),
    "an unknown layout": (
        wrong(layout="coco-18"),
        "gym.yaml: layout: no layout is called 'coco-18'; there are:",
    ),
    "an unknown joint": (
        wrong(layout={**STICK, "bones": {**STICK["bones"], "r": "neck"}}),
        "gym.yaml: layout: bones names the unknown joint 'neck'",
    ),
    "a layout without bones": (
        wrong(layout={key: value for key, value in STICK.items() if key != "bones"}),
        "gym.yaml: layout: the key 'bones' is missing",
    ),
    "a list that is a text": (
        wrong(splits={"xsub": {"field": "subject", "train": "ada"}}),
        "gym.yaml: splits.xsub.train: a list is expected, found 'ada'",
    ),
    "a split by an unknown field": (
        wrong(splits={"xsub": {"field": "room", "train": [1]}}),
        "gym.yaml: splits.xsub.field: name_pattern has no group 'room'; there are: subject, day, action, id",
    ),
    "a split without subsets": (
        wrong(splits={"xsub": {"field": "day"}}),
        "gym.yaml: splits.xsub: one of the keys 'train' and 'test' is expected",
    ),
    "a value in both subsets": (
        wrong(splits={"xsub": {"field": "day", "train": [1, 2], "test": [2]}}),
        "gym.yaml: splits.xsub: 2 is in both subsets",
    ),
    "no pattern": (wrong(name_pattern="(?P<action>"), "gym.yaml: name_pattern: is no regular expression"),
    "no class in the name": (wrong(label="move"), "gym.yaml: label: name_pattern has no group 'move'"),
    "a class that is a number": (wrong(classes=["squat", "3"]), "gym.yaml: classes: '3' is a number: give names"),
    "a name where a number is expected": (
        wrong(classes={"squat": 1}),
        "gym.yaml: classes.squat: the number of a class is expected before its name",
    ),
    "a number for a class and a first label": (
        wrong(classes={1: "squat"}, first_label=0),
        "gym.yaml: first_label: counts the classes of a list",
    ),
    "a numbered class twice": (
        wrong(classes={1: "a", 3: "a"}),
        "gym.yaml: classes: names are expected, each once",
    ),
    "a key twice": (None, r"gym.yaml:2: is no YAML: the key 'name' is given twice"),
    "a bone that is a list": (
        wrong(layout={**STICK, "bones": {**STICK["bones"], "r": ["hip"]}}),
        "gym.yaml: layout: bones names the unknown joint",
    ),
    "another dataset's key": (wrong(recordings="ntu120"), "gym.yaml: unknown key 'recordings'"),
    "a class twice": (wrong(classes=["a", "a"]), "gym.yaml: classes: names are expected, each once"),
    "no bodies": (wrong(bodies=0), "gym.yaml: bodies: 0 is less than 1"),
    "an unknown axis": (wrong(axes="T,V,D"), "gym.yaml: axes: there is no axis 'D'; there are: N recordings, T"),
    "an axis left out": (wrong(axes="T,V"), "gym.yaml: axes: T, V and C are expected once each"),
    "an axis twice": (wrong(axes="T,V,C,T"), "gym.yaml: axes: T, V and C are expected once each"),
    "axes of a text": (
        wrong(axes="T,V,C", reader="pku-text"),
        "gym.yaml: axes: the files of reader pku-text are text",
    ),
    "an unknown channel": (
        wrong(channels=["x", "y", "depth"]),
        "gym.yaml: channels: there is no channel 'depth'; there are: x, y, z, score, unused",
    ),
    "a channel twice": (
        wrong(channels=["x", "y", "score", "confidence"]),
        "gym.yaml: channels: x and y are expected once each, z and score at most once, found x, y, score, conf",
    ),
    "channels without y": (wrong(channels="x, score"), "gym.yaml: channels: x and y are expected once each"),
    "channels of a fixed format": (
        wrong(channels=["x", "y", "score"], reader="ntu-skeleton"),
        "gym.yaml: channels: the files of reader ntu-skeleton hold [x, y, z]",
    ),
    "an unknown choice of bodies": (
        wrong(body_choice="largest"),
        "gym.yaml: body_choice: 'largest' is not one of motion, first",
    ),
    "an unknown policy for frames": (
        wrong(empty_frames="drop"),
        "gym.yaml: empty_frames: 'drop' is not one of as-authors, dropped, held, interpolated",
    ),
    "an unknown policy for joints": (
        wrong(missing_joints=True),
        "gym.yaml: missing_joints: a text is expected, found True",
    ),
    "a missing value that is no number": (
        wrong(missing_value="-"),
        "gym.yaml: missing_value: the number that stands for a joint that was not found is expected, found '-'",
    ),
    "a missing file": (
        wrong(splits={"xsub": {"field": "id", "train": {"file": "no.txt"}}}),
        "gym.yaml: splits.xsub.train.file: .*no.txt: cannot be read",
    ),
    "a range with its limits reversed": (wrong(ranges={"day": [3, 1]}), "gym.yaml: ranges.day: two whole numbers"),
    "a name with a path": (wrong(name="../gym"), "gym.yaml: name: '../gym' may hold letters"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_each_mistake_is_reported_with_file_and_key(gym, case) -> None:
    changes, message = MISTAKES[case]
    if changes is None:
        (gym / "gym.yaml").write_text("name: a\nname: b\n")
        with pytest.raises(UsageError, match=message):
            load_manifest(str(gym / "gym.yaml"))
        return
    for special in ("(", "[x", "?P", "'?"):
        message = message.replace(special, f"\\{special}")
    with pytest.raises(UsageError, match=message):
        load_manifest(changed(gym, **changes))


def test_files_that_are_no_manifest(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"my.yaml: cannot be read: No such file"):
        load_manifest(str(tmp_path / "my.yaml"))
    (tmp_path / "my.yaml").write_text("name: [")
    with pytest.raises(UsageError, match=r"my.yaml:\d: is no YAML"):
        load_manifest(str(tmp_path / "my.yaml"))
    (tmp_path / "my.yaml").write_text("- a\n- b\n")
    with pytest.raises(UsageError, match=r"my.yaml: a mapping of keys is expected"):
        load_manifest(str(tmp_path / "my.yaml"))
    (tmp_path / "my.yaml").write_text("!!python/object/apply:os.system ['true']\n")
    with pytest.raises(UsageError, match=r"my.yaml:1: is no YAML: could not determine a constructor"):
        load_manifest(str(tmp_path / "my.yaml"))
    with pytest.raises(UsageError, match=r"no dataset is called 'ntu61'.*given as the path of its .yaml"):
        load_manifest("ntu61")


def test_pixels_with_y_downwards(gym) -> None:
    """Image coordinates are turned upright when they are read; their units are named."""
    options = Options("xsub", frames=8, bodies=1)
    up = prepare(load_manifest(str(gym / "gym.yaml")), [gym / "raw"], gym / "up", options, quiet=True)
    pictures = load_manifest(changed(gym, y="down", units="pixels"))
    down = prepare(pictures, [gym / "raw"], gym / "down", options, quiet=True)
    assert (up.card["units"], down.card["units"]) == ("metres", "pixels")
    clips = [Dataset.open(gym / name).reader("test", "joint").gather(np.arange(4)) for name in ("up", "down")]
    assert np.array_equal(clips[1][:, 1], -clips[0][:, 1])
    assert np.array_equal(clips[1][:, [0, 2]], clips[0][:, [0, 2]])
    assert "x, y, z in pixels" in (gym / "down" / "README.md").read_text()
    shown = CliRunner().invoke(main, ["show", "--shards", str(gym / "down"), "--out", str(gym / "clip.html")])
    assert shown.exit_code == 0, shown.output
    assert "pixels, as profile crosclr" in (gym / "clip.html").read_text()


def test_joints_that_an_estimator_did_not_find(gym) -> None:
    """The nose at the origin: frames that do not count are noted; a clip without any other frame is damaged."""
    poses = np.load(gym / "raw" / "cy-1-row.npy")
    poses[5:, 0] = 0
    np.save(gym / "raw" / "cy-1-row.npy", poses)
    lost = np.load(gym / "raw" / "cy-2-row.npy")
    lost[:, 0] = 0
    np.save(gym / "raw" / "cy-2-row.npy", lost)
    manifest = load_manifest(str(gym / "gym.yaml"))
    options = Options("xsub", frames=8, bodies=1, empty_frames="as-authors")
    with pytest.raises(
        RawError, match=r"cy-2-row\.npy: nothing is left of it: body 1, or its nose, is at the origin"
    ):
        prepare(manifest, [gym / "raw"], gym / "ds", options, quiet=True)
    prepare(manifest, [gym / "raw"], gym / "ds", options, quiet=True, skip_bad=True)
    rows = {row["id"]: row for row in pq.read_table(gym / "ds" / "samples.parquet").to_pylist()}
    assert rows["cy-1-row"]["note"] == "16 of 21 frames do not count: nose is at the origin"
    assert rows["cy-1-squat"]["note"] is None
    prepare(manifest, [gym / "raw"], gym / "all", Options("xsub", frames=8, bodies=1), quiet=True)
    rows = {row["id"]: row for row in pq.read_table(gym / "all" / "samples.parquet").to_pylist()}
    assert {row["note"] for row in rows.values()} == {None}  # where frames are dropped, all others count


def test_values_of_a_split_that_no_recording_has(gym, monkeypatch) -> None:
    monkeypatch.chdir(gym)
    changed(gym, splits={"xsub": {"field": "subject", "train": ["ada", "nobody"]}})
    words = [
        "prepare",
        "--dataset",
        "gym.yaml",
        "--split",
        "xsub",
        "--raw",
        "raw",
        "--out",
        "ds",
        "--workers",
        "1",
    ]
    result = CliRunner().invoke(main, [*words, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "Warning: no recording has these values of split xsub: nobody" in result.output
