"""MediaPipe's landmarks in the forms in which people keep them."""

import io

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.skeleton import layout

NAMES = layout("mediapipe-33").joints
LEFT_HIP, RIGHT_HIP = NAMES.index("left hip"), NAMES.index("right hip")
SIZE = (1280, 720)
RNG = np.random.default_rng(2)
FRACTIONS = np.concatenate(
    [RNG.uniform(0.1, 0.9, (3, 33, 2)), RNG.normal(0, 0.2, (3, 33, 1)), RNG.uniform(0, 1, (3, 33, 1))], axis=2
).round(5)
PIXELS = FRACTIONS[..., :3] * [SIZE[0], SIZE[1], SIZE[0]]
WORLD = RNG.normal(0, 0.4, (3, 33, 4)).round(5)
WORLD[:, RIGHT_HIP, :3] = -WORLD[:, LEFT_HIP, :3]
WORLD[..., 3] = FRACTIONS[..., 3]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def csv(array: np.ndarray, header: list[str] | None = None) -> str:
    lines = [",".join(f"{value:.9g}" for value in row) for row in array.reshape(len(array), -1)]
    return "\n".join(([",".join(header)] if header else []) + lines)


def points(frame: np.ndarray) -> list[dict]:
    return [dict(zip(("x", "y", "z", "visibility"), map(float, one), strict=True)) for one in frame]


AXES = ("x", "y", "z", "visibility")
FORMS = {
    "npy": npy,
    "npy, flat": lambda a: npy(a.reshape(3, -1).astype(np.float32)),
    "npy, with presence": lambda a: npy(np.concatenate([a, a[..., :1]], axis=2)),
    "csv, x_0": lambda a: csv(a, [f"{axis}_{v}" for v in range(33) for axis in AXES]),
    "csv, x1": lambda a: csv(a, [f"{axis}{v + 1}" for v in range(33) for axis in ("x", "y", "z", "v")]),
    "csv, names": lambda a: csv(a, [f"{n.upper().replace(' ', '_')}_{axis}" for n in NAMES for axis in AXES]),
    "csv, no header": csv,
    "json, lists": lambda a: a.tolist(),
    "json, objects": lambda a: [points(frame) for frame in a],
    "json, landmarks": lambda a: {"frames": [{"landmarks": points(frame)} for frame in a]},
}


@pytest.mark.parametrize("form", FORMS)
def test_normalised_landmarks_become_pixels(read_poses, form: str) -> None:
    recording = read_poses("mediapipe", FORMS[form](FRACTIONS), "mediapipe-33", image_size=SIZE)
    assert recording.counts.tolist() == [1, 1, 1]
    np.testing.assert_allclose(recording.xyz, PIXELS, rtol=1e-5)
    np.testing.assert_allclose(recording.scores, FRACTIONS[..., 3], rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_world_landmarks_stay_metres(read_poses, form: str) -> None:
    recording = read_poses("mediapipe", FORMS[form](WORLD), "mediapipe-33")
    np.testing.assert_allclose(recording.xyz, WORLD[..., :3], rtol=1e-5)


def test_pixels_stay_pixels(read_poses) -> None:
    """Many people multiply the landmarks by the picture's size before they save them."""
    recording = read_poses("mediapipe", npy(PIXELS), "mediapipe-33", channels=("x", "y", "z"))
    np.testing.assert_allclose(recording.xyz, PIXELS)
    assert recording.scores is None


@pytest.mark.parametrize("nobody", [None, [], 0.0, np.nan])
def test_frames_without_anybody(read_poses, nobody) -> None:
    if nobody is None or nobody == []:
        content = [WORLD[0].tolist(), nobody, WORLD[2].tolist()]
    else:
        array = WORLD.copy()
        array[1] = nobody
        content = npy(array)
    recording = read_poses("mediapipe", content, "mediapipe-33")
    assert recording.counts.tolist() == [1, 0, 1]
    np.testing.assert_allclose(recording.xyz, WORLD[[0, 2], :, :3])


def test_several_people_are_followed(read_poses) -> None:
    there, away = FRACTIONS[0] * 0.1, FRACTIONS[0] * 0.1 + 0.8
    content = [[there.tolist(), away.tolist()], [away.tolist(), there.tolist()], [away.tolist()]]
    recording = read_poses("mediapipe", content, "mediapipe-33", image_size=SIZE)
    assert recording.counts.tolist() == [2, 2, 2]
    assert recording.ids.tolist() == [0, 1] * 3
    np.testing.assert_allclose(recording.xyz[5], away[:, :3] * [SIZE[0], SIZE[1], SIZE[0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(FRACTIONS), r"its positions are fractions of the picture's width and height"),
        (npy(FRACTIONS[:, :32]), r"an array \[frames,33,3 to 5\] is expected, found the shape \[3, 32, 4\]"),
        (npy(np.full((1, 33, 4), "a")), r"an array of floats or integers is expected"),
        (npy(np.full((1, 33, 4), np.inf)), r"frame 1, joint 1 \(nose\): a value is not finite"),
        (npy(WORLD[..., :3]), r"holds no scores: leave 'score' out of the manifest's channels"),
        ([WORLD[0].tolist(), WORLD[1, :30].tolist()], r"frame 2: 33 joints are expected, found 30"),
        ([{"hands": 1}], r"frame 1: an object with 'landmarks' is expected, found the keys \['hands'\]"),
        ([[{"x": 1, "y": 2}] * 33], r"frame 1, joint 1: the key 'z' is missing"),
        ([[{"name": "mouth", "x": 1, "y": 2, "z": 0}] * 33], r"frame 1: landmark 1 is 'mouth', expected 'nose'"),
        (7, r""),
    ],
)  # fmt: skip
def test_damage_is_named(read_poses, content, message: str) -> None:
    with pytest.raises(RawError, match=rf"^a\.json:.*{message}"):
        read_poses("mediapipe", content, "mediapipe-33")
