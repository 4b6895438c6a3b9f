"""Scenes: where the bodies are, in which colours, and which dataset a file's name belongs to."""

import numpy as np
import pytest

from skelpipe import manifests
from skelpipe.drawing.colours import joint_colours, part_colours
from skelpipe.drawing.scene import Scene, make_panel, recording_clip
from skelpipe.drawing.sources import manifest_for
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


def test_bodies_are_sorted_by_id_when_the_file_lists_them_in_another_order() -> None:
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(5, 4, 3))
    clip, names = recording_clip(np.array([2, 2, 1]), np.array([70, 90, 90, 70, 70]), xyz)
    np.testing.assert_array_equal(clip[..., 0], np.stack([xyz[0], xyz[3], xyz[4]]).transpose(2, 0, 1))
    np.testing.assert_array_equal(clip[:, :2, :, 1], np.stack([xyz[1], xyz[2]]).transpose(2, 0, 1))
    assert np.isnan(clip[:, 2, :, 1]).all()
    assert names == ("body 1, id 70", "body 2, id 90")
    twice, names = recording_clip(np.array([2]), np.array([0, 0]), xyz[:2])
    np.testing.assert_array_equal(twice[:, 0], xyz[:2].transpose(2, 1, 0))
    assert names == ("body 1", "body 2")
    xyz[0] = 0  # listed, but with zeros only
    placed, names = recording_clip(np.array([2]), np.array([0, 1]), xyz[:2])
    assert np.isnan(placed[..., 0]).all()
    assert np.isfinite(placed[..., 1]).all()


def test_two_coordinates_are_drawn_flat(make_scene) -> None:
    clip = np.random.default_rng(0).normal(size=(2, 3, 25, 1))
    panel = make_panel("joint", clip, clip, KINECT, ("body 1",))
    np.testing.assert_array_equal(panel.points[0, ..., :2], clip[..., 0].transpose(1, 2, 0))
    assert Scene("a", "b", {}, KINECT, 30, (panel,)).flat
    assert not make_scene().flat


def test_joints_and_bones_have_their_parts_colour() -> None:
    for name in manifests.names("layouts"):
        shape = layout(name)
        colours = part_colours(shape)
        assert list(colours) == list(shape.parts)
        assert len(set(colours.values())) == len(colours)
        for part, joints in shape.parts.items():
            assert {joint_colours(shape)[v] for v in joints} == {colours[part]}


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("S001C001P001R001A001.skeleton", "ntu60"),
        ("S020C003P044R002A100.skeleton", "ntu120"),
        ("a08_s01_e01_skeleton3D.txt", "msr-action3d"),
        ("a08_s01_e00_v03.json", "nw-ucla"),
    ],
)
def test_the_dataset_is_found_by_the_files_name(name, dataset) -> None:
    assert manifest_for(f"some/where/{name}").name == dataset
