"""`skelpipe show`: the page has the numbers of the raw file or the dataset."""

import json

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


def test_page_of_a_raw_file_holds_its_coordinates_to_the_millimetre(
    run, raw_file, frames, read_page, points_of, expected
) -> None:
    assert run(raw_file, "--out", "clip.html").exit_code == 0
    found = read_page((raw_file.parent / "clip.html").read_text("utf-8"))
    np.testing.assert_allclose(points_of(found.clip), expected, atol=0.000501)
    assert found.clip["panels"][0]["arrows"] is None
    assert found.clip["rate"] == 30
    assert found.clip["frames"] == len(frames)
    assert sorted(map(tuple, found.clip["bones"])) == sorted(KINECT.edges)
    title = "S001C001P001R001A050: punching/slapping other person"
    assert found.texts["title#"] == found.texts["h1#"] == title
    low, high = (np.array(found.clip[key]) for key in ("low", "high"))
    assert (low <= np.nanmin(expected, axis=(0, 1, 2))).all()
    assert (high >= np.nanmax(expected, axis=(0, 1, 2))).all()


def test_motion_of_a_raw_file_is_joints_with_arrows(run, raw_file, read_page, points_of, expected) -> None:
    assert run(raw_file, "--view", "motion", "--out", "clip.html").exit_code == 0
    clip = read_page((raw_file.parent / "clip.html").read_text("utf-8")).clip
    joints = expected
    np.testing.assert_allclose(points_of(clip), joints, atol=0.000501)
    arrows = points_of(clip, "arrows")
    np.testing.assert_allclose(arrows[:, :-1], joints[:, 1:] - joints[:, :-1], atol=0.000052)
    assert np.isnan(arrows[:, -1]).all()
    assert clip["arrowScale"] >= 1


def test_bones_of_a_raw_file_are_joined_from_the_centre(run, raw_file, read_page, points_of, expected) -> None:
    assert run(raw_file, "--view", "bone", "--out", "clip.html").exit_code == 0
    clip = read_page((raw_file.parent / "clip.html").read_text("utf-8")).clip
    joints = expected
    centred = joints - joints[:, :, [KINECT.joints.index("spine shoulder")]]
    np.testing.assert_allclose(points_of(clip), centred, atol=0.000502)


@pytest.mark.parametrize("view", ["joint", "bone", "motion"])
def test_page_of_a_sample_holds_what_is_stored(run, dataset, view, read_page, points_of) -> None:
    wanted = dataset.ids("train")[2]
    done = run("--id", wanted, "--view", view, "--out", "clip.html", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["id"], facts["frames"], facts["view"], facts["bodies"]) == (wanted, 8, view, 2)
    assert facts["class"] == dataset.classes[dataset.labels("train")[2]]
    clip = read_page((dataset.path.parents[1] / "clip.html").read_text("utf-8")).clip
    stored = {
        kind: dataset.reader("train", kind).gather(np.array([2]))[0].transpose(3, 1, 2, 0)
        for kind in dataset.views
    }
    if view == "bone":
        drawn = points_of(clip)
        vectors = drawn - drawn[:, :, list(KINECT.parents)]
        np.testing.assert_allclose(vectors, stored["bone"], atol=0.00101)
        assert (drawn[:, :, KINECT.centre] == 0).all()
    else:
        np.testing.assert_allclose(points_of(clip), stored["joint"], atol=0.000501)
    if view == "motion":
        np.testing.assert_allclose(points_of(clip, "arrows"), stored["motion"], atol=0.0000501)


def test_without_an_id_the_first_test_sample_is_drawn_into_its_own_page(run, dataset, read_page) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    first = dataset.ids("test")[0]
    assert read_page((dataset.path.parents[1] / f"{first}.html").read_text("utf-8")).texts["h1#"].startswith(first)


def test_without_test_samples_the_first_of_the_train_subset_is_drawn(run, dataset, monkeypatch) -> None:
    count = Dataset.count
    monkeypatch.setattr(Dataset, "count", lambda self, side: 0 if side == "test" else count(self, side))
    assert json.loads(run("--json").stdout)["id"] == dataset.ids("train")[0]
    monkeypatch.setattr(Dataset, "count", lambda self, side: 0)
    done = run()
    assert done.exit_code == 1
    assert "holds no clips" in done.output


def test_unknown_id_names_the_nearest(run, dataset) -> None:
    ids = [*dataset.ids("train"), *dataset.ids("test")]
    wrong = ids[3].replace("A00", "A09")
    done = run("--id", wrong)
    assert done.exit_code == 2
    assert wrong in done.output
    assert ids[3] in done.output.split("nearest")[1]
    cut = run("--id", ids[3][1:])
    assert ids[3] in cut.output.split("nearest")[1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("S001C001P001R001A050.skeleton", "--out", "clip.mp4"), 2, "clip.mp4: a clip is drawn as .html or .gif"),
        (("holiday.txt",), 2, "pass --dataset"),
        (("S001C001P001R001A001.skeleton",), 1, "S001C001P001R001A001.skeleton: cannot be read: No such file"),
        (("S001C001P001R001A001.skeleton", "--id", "S001"), 2, "not both"),
        (("S001C001P001R001A001.skeleton", "--dataset", "kitchen"), 2, "kitchen"),
        (("--dataset", "ntu60"), 2, "--shards names a prepared dataset"),
        ((), 2, "no dataset found"),
    ],
)
def test_wrong_usage_is_one_line(run, tmp_path, words, code, message) -> None:
    done = run(*words)
    assert done.exit_code == code
    assert message in done.output
    assert len(done.output.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_file_of_any_name_is_read_with_dataset(run, raw_file, read_page, points_of, expected) -> None:
    other = raw_file.rename(raw_file.parent / "take 2.skel")
    done = run(other, "--dataset", "ntu120")
    assert done.exit_code == 0, done.output
    found = read_page((raw_file.parent / "take_2.html").read_text("utf-8"))
    assert found.texts["h1#"] == "take 2"
    np.testing.assert_allclose(points_of(found.clip), expected, atol=0.000501)
