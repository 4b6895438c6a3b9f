"""The order of an array's axes: every order is read when it is declared, and none is guessed."""

from itertools import permutations

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.raw.axes import arranged, recorded
from skelpipe.raw.form import Form
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import layout

COCO = layout("coco-17")
SIZE = {"T": 9, "M": 2, "V": 17, "C": 3, "N": 1}


def form(bodies: int = 1, axes: str = "", channels: str = "", missing: float | None = None) -> Form:
    return Form(COCO, bodies, tuple(channels.split()), tuple(axes), missing)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("letters", ["TVC", "TMVC", "NTVC", "NTMVC"])
def test_every_declared_order_is_read(letters: str) -> None:
    """Each order, made by einsum from one array [T,M,V,C]."""
    expected = numbers(9, 2 if "M" in letters else 1, 17, 3)
    source = expected if "M" in letters else expected[:, 0]
    plain = letters.replace("N", "")
    for order in map("".join, permutations(letters)):
        array = np.einsum(f"{plain}->{order.replace('N', '')}", source)
        if "N" in order:
            array = np.expand_dims(array, order.index("N"))
        assert array.shape == tuple(SIZE[letter] for letter in order)
        assert np.array_equal(arranged(array, form(2, order), "a"), expected)


@pytest.mark.parametrize(
    ("shape", "bodies", "frames"),
    [((60, 17, 3), 1, 60), ((60, 17, 2), 1, 60), ((60, 1, 17, 3), 1, 60), ((60, 2, 17, 3), 2, 60)],
)
def test_an_order_that_can_be_no_other_is_read(shape: tuple[int, ...], bodies: int, frames: int) -> None:
    array = numbers(*shape)
    got = arranged(array, form(bodies), "a")
    assert got.shape == (frames, bodies, 17, shape[-1])
    assert np.array_equal(got.ravel(), array.ravel())


@pytest.mark.parametrize("shape", [(1, 2, 40, 17, 1), (1, 2, 40, 17), (2, 40, 17, 1), (2, 40, 17)])
def test_either_declared_axis_of_size_1_may_have_been_squeezed(shape: tuple[int, ...]) -> None:
    array = numbers(2, 40, 17)
    got = arranged(array.reshape(shape), form(1, "NCTVM"), "a")
    assert np.array_equal(got, array.transpose(1, 2, 0)[:, None])
    frames_second = numbers(1, 40, 17, 3)
    assert np.array_equal(arranged(frames_second, form(1, "NTMVC"), "a"), frames_second[0][:, None])


REFUSED = {
    "a person first": (
        (1, 60, 17, 2),
        1,
        r"shape \[1, 60, 17, 2\].* 60 bodies in 1 frame: .*`axes: M,T,V,C` into",
    ),
    "two people first": ((2, 60, 17, 3), 2, r"60 bodies in 2 frames.*`axes: M,T,V,C` into"),
    "coordinates first": ((3, 60, 17, 2), 2, r"shape \[3, 60, 17, 2\].*`axes: C,T,V,M`"),
    "coordinates first, one body": ((3, 60, 17), 1, r"shape \[3, 60, 17\] is not T,V,C.*`axes: C,T,V` into"),
    "coordinates before joints": ((60, 3, 17), 1, r"shape \[60, 3, 17\] is not T,V,C.*`axes: T,C,V` into"),
    "bodies last": ((60, 17, 3, 1), 1, r"`axes: T,V,C,M` into"),
    "joints first": ((17, 60, 3), 1, r"shape \[17, 60, 3\] is not T,V,C.*`axes: V,T,C` into"),
    "as many frames as joints": ((17, 17, 3), 1, r"read as `axes: T,V,C` or `axes: V,T,C`: write"),
    "as many frames as coordinates": ((3, 17, 3), 1, r"read as `axes: T,V,C` or `axes: C,V,T`: write"),
    "as many bodies as coordinates": ((60, 2, 17, 2), 2, r"read as `axes: T,M,V,C` or `axes: T,C,V,M`: write"),
    "more bodies than declared": (
        (60, 4, 17, 3),
        2,
        r"4 bodies in 60 .*bodies: 2: write `axes: T,M,V,C`.*bodies: 4",
    ),
    "a batch of one": ((1, 3, 60, 17, 2), 2, r"`axes: N,C,T,V,M` into"),
    "other joints": ((60, 18, 3), 1, r"17 joints are expected, found 18, shape \[60, 18, 3\]$"),
    "joints and coordinates in one": ((60, 51), 1, r"found the shape \[60, 51\]$"),
    "four numbers per joint": ((60, 17, 4), 1, r"found the shape \[60, 17, 4\]; .*channels: \[x, y, z, score\]$"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_order_that_could_be_another_is_refused_with_the_line_to_write(case: str) -> None:
    shape, bodies, message = REFUSED[case]
    with pytest.raises(RawError, match=f"^a.npy: .*{message}"):
        arranged(numbers(*shape), form(bodies), "a.npy")


@pytest.mark.parametrize("case", [case for case in REFUSED if "`axes" in REFUSED[case][2]])
def test_the_line_to_write_is_read(case: str) -> None:
    shape, bodies, _ = REFUSED[case]
    array = numbers(*shape)
    with pytest.raises(RawError) as error:
        arranged(array, form(bodies), "a.npy")
    axes = str(error.value).split("`axes: ")[1].split("`")[0].replace(",", "")
    size = dict(zip(axes, shape, strict=True))
    got = arranged(array, form(bodies, axes), "a.npy")
    assert got.shape == (size["T"], size.get("M", 1), 17, size["C"])


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("TVC", (1, 60, 17, 3), (60, 1, 17, 3)),
        ("TVC", (60, 1, 17, 3), (60, 1, 17, 3)),
        ("TMVC", (60, 17, 3), (60, 1, 17, 3)),
        ("NCTVM", (3, 60, 17), (60, 1, 17, 3)),
        ("CTVM", (1, 3, 60, 17, 2), (60, 2, 17, 3)),
        ("TVC", (1, 1, 17, 3), (1, 1, 17, 3)),
    ],
)
def test_axes_of_size_one_may_be_missing_or_too_many(
    axes: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    array = numbers(*shape)
    got = arranged(array, form(2, axes), "a")
    assert got.shape == expected
    assert sorted(got.ravel()) == sorted(array.ravel())


DECLARED = {
    "several recordings": (
        "NTVC",
        (5, 60, 17, 3),
        r"is not the manifest's axes: N,T,V,C: N is 5, .*skelpipe import",
    ),
    "another number of joints": ("TVC", (60, 18, 3), r"V is 18, the layout has 17 joints$"),
    "joints elsewhere": ("TVC", (17, 60, 3), r"shape \[17, 60, 3\] .*V is 60, the layout has 17 joints$"),
    "coordinates elsewhere": ("CTV", (60, 3, 17), r"C is 60, 2 or 3 numbers per joint are expected$"),
    "too few axes": ("TVC", (60, 51), r"axes: T,V,C: 3 axes are expected$"),
    "too many axes": ("TVC", (60, 2, 17, 3), r"axes: T,V,C: 3 axes are expected$"),
}


@pytest.mark.parametrize("case", DECLARED)
def test_a_shape_that_does_not_fit_the_declared_axes(case: str) -> None:
    axes, shape, message = DECLARED[case]
    with pytest.raises(RawError, match=f"^a.npy: .*{message}"):
        arranged(numbers(*shape), form(2, axes), "a.npy")


def read(array: np.ndarray, **declared) -> Recording:
    given = form(**declared)
    return recorded(arranged(array, given, "a.npy"), given, "a.npy")


@pytest.mark.parametrize("channels", ["x y score", "score x y", "y score x", "x y z score", "score z y x unused"])
def test_numbers_per_joint_are_what_the_manifest_says(channels: str) -> None:
    names = channels.split()
    array = numbers(30, 17, len(names))
    recording = read(array, channels=channels)
    for axis, name in enumerate("xyz"):
        expected = array[..., names.index(name)] if name in names else np.zeros((30, 17))
        assert np.array_equal(recording.xyz[..., axis], expected)
    assert np.array_equal(recording.scores, array[..., names.index("score")])


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", "<i4"])
@pytest.mark.parametrize("missing", [None, -1.0, 0.0])
def test_joints_that_were_not_found_become_nan(dtype: str, missing: float | None) -> None:
    array = (numbers(30, 17, 3) * 50 + 200).astype(dtype)
    array[4, 5] = 0 if missing is None else missing
    array[9, 2, 0] = 0 if missing is None else missing  # one coordinate alone is a position
    if array.dtype.kind == "f":
        array[2, 3, 1] = np.nan
    recording = read(array, missing=missing)
    lost = np.isnan(recording.xyz)
    assert np.array_equal(lost.any(axis=2), lost.all(axis=2))
    expected = {(2, 3)} if array.dtype.kind == "f" else set()
    assert {tuple(map(int, at)) for at in np.argwhere(lost.any(axis=2))} == expected | (
        set() if missing is None else {(4, 5)}
    )


def test_a_missing_value_of_flat_poses_says_nothing_of_z() -> None:
    array = numbers(30, 17, 2)
    array[3, 4] = -1
    assert np.isnan(read(array, missing=-1).xyz[3, 4]).all()


def test_a_body_of_which_nothing_was_found_is_absent_and_has_no_score() -> None:
    array = numbers(30, 2, 17, 4)
    array[:10, 0, :, :3] = np.nan
    array[10:20, 1, :5, :3] = np.nan
    array[10:20, 1, 5:, :3] = 0
    array[..., 3] = 0.5
    array[0, 1, 0, 3] = np.nan
    recording = read(array, bodies=2, channels="x y z score")
    assert recording.counts.tolist() == [2] * 10 + [1] * 10 + [2] * 10
    first = recording.cut(0, 10)
    assert not first.xyz[::2].any()
    assert not first.scores[::2].any()
    assert first.scores[1::2].sum() == 10 * 17 * 0.5 - 0.5


def test_an_infinite_value_is_refused() -> None:
    array = numbers(30, 17, 3)
    array[3, 4, 2] = np.inf
    with pytest.raises(
        RawError, match=r"^a.npy: frame 4, body 1, joint 5: \[.*inf\] holds a value that is not fin"
    ):
        read(array)
    with pytest.raises(
        RawError, match=r"^a.npy: frame 4, body 1, joint 5: \[.*inf\] holds a value that is not fin"
    ):
        read(array, channels="x y score")
