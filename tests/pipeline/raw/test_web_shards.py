"""Shards that others wrote: any order of members, npy, npz and JSON, compression; damage and pickles by name."""

import io
import json
import pickle
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from skelpipe.errors import RawError, UsageError
from skelpipe.raw import web_shards
from skelpipe.raw.web_shards import (
    WebFields,
    WebSample,
    array_in,
    expand_shards,
    is_web_shard,
    numbered,
    web_samples,
)

Members = Sequence[tuple[str, bytes]]
CLIPS = np.random.default_rng(0).normal(size=(3, 6, 25, 3)).astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def tar(members: Members, mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as out:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return file.getvalue()


def read(content: bytes, array: str = "", label: str = "") -> dict[str, WebSample]:
    samples = list(web_samples(io.BytesIO(content), "foo.tar", WebFields(array, label)))
    return {sample.key: sample for sample in samples}


def check(samples: dict[str, WebSample], labels: Sequence[int | str | None] = (0, 1, 2)) -> None:
    assert sorted(samples) == ["a", "b", "c"]
    for key, clip, label in zip("abc", CLIPS, labels, strict=True):
        assert samples[key].array.tobytes() == clip.tobytes()
        assert samples[key].label == label


PLAIN = [member for n, k in enumerate("abc") for member in ((f"{k}.npy", npy(CLIPS[n])), (f"{k}.cls", b"%d" % n))]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_plain_and_compressed_tars(mode: str) -> None:
    check(read(tar(PLAIN, mode)))


@pytest.mark.parametrize(
    "order", [PLAIN[::-1], [*PLAIN[::2], *PLAIN[1::2]], [PLAIN[i] for i in (4, 1, 0, 3, 5, 2)]], ids=str
)
def test_members_in_any_order(order: Members) -> None:
    check(read(tar(order)))
    check(read(tar(order), "npy", "cls"))


def test_other_members_folders_and_names() -> None:
    more = [("./._a.npy", b"mac"), ("__meta__", b"x"), ("a.jpg", b"picture"), ("b.PKL", pickle.dumps({1: 2}))]
    check(read(tar([*more, *PLAIN])))
    nested = [(f"data/train/{name}", content) for name, content in PLAIN]
    assert sorted(read(tar(nested))) == ["data/train/a", "data/train/b", "data/train/c"]
    check(read(tar([(name.replace(".npy", ".joint.npy"), content) for name, content in PLAIN]), "joint.npy"))


def test_npz_json_and_labels_inside() -> None:
    packed = [(f"{k}.npz", npz(xyz=CLIPS[n], other=CLIPS[0])) for n, k in enumerate("abc")]
    named = [(f"{k}.txt", f" class {n}\n".encode()) for n, k in enumerate("abc")]
    check(read(tar([*packed, *named]), "npz:xyz"), ["class 0", "class 1", "class 2"])
    with pytest.raises(RawError, match=r"foo.tar: a.npz: holds 2 arrays: .*other, xyz"):
        read(tar(packed))
    facts = [
        (f"{k}.json", json.dumps({"keypoints": CLIPS[n].tolist(), "label": n}).encode())
        for n, k in enumerate("abc")
    ]
    samples = read(tar(facts))
    assert [samples[key].label for key in "abc"] == [0, 1, 2]
    np.testing.assert_array_equal([samples[key].array.astype(np.float32) for key in "abc"], CLIPS)
    beside = [(f"{k}.json", json.dumps({"action": f"act {n}"}).encode()) for n, k in enumerate("abc")]
    check(read(tar([*PLAIN[::2], *beside])), ["act 0", "act 1", "act 2"])


def test_labels_that_agree_are_one() -> None:
    beside = [(f"{k}.json", json.dumps({"label": n, "action": str(n)}).encode()) for n, k in enumerate("abc")]
    check(read(tar([member for n in range(3) for member in (*PLAIN[2 * n : 2 * n + 2], beside[n])])))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_where_arrays_lie(mode: str) -> None:
    """The content at offset and size, in the inflated tar, is the member's, whatever precedes it."""
    long = [(f"{'d' * 150}/{name}", content) for name, content in PLAIN]  # long names have headers of their own
    plain = tar(long)
    for sample in read(tar(long, mode)).values():
        content = plain[sample.offset : sample.offset + sample.size]
        assert content == dict(long)[f"{sample.key}.{sample.suffix}"]
        assert np.array_equal(array_in(content, sample.suffix, "", "foo"), sample.array)


def test_numbers_of_labels() -> None:
    assert numbered([2, None, 0], "x") == ([2, -1, 0], (), "")
    assert numbered(["run", 3, "eat"], "x") == ([2, 0, 1], ("3", "eat", "run"), "")
    numbers, _, note = numbered([1, 2, 3], "x")
    assert numbers == [1, 2, 3]
    assert "x: no sample has label 0, the lowest is 1" in note
    for wrong in (-1, 10**15):
        with pytest.raises(RawError, match=f"x: a label is {wrong}: labels count from 0"):
            numbered([0, wrong], "x")


def test_no_labels() -> None:
    for label in ("", "none"):
        check(read(tar(PLAIN[::2]), label=label), [None] * 3)


@pytest.mark.parametrize(
    ("members", "fields", "message"),
    [
        ([("a.pkl", b"x"), ("a.cls", b"0")], (), r"foo.tar: a.pkl: would have to be unpickled"),
        ([*PLAIN, ("d.pyd", b"x")], ("pyd",), r"foo.tar: a.pyd: would have to be unpickled"),
        ([("a.npy", npy(np.array([{}], object)))], (), r"foo.tar: a.npy: the array holds Python objects"),
        ([("a.npz", npz(x=np.array([{}], object)))], (), r"foo.tar: a.npz: the array holds Python objects"),
        ([("a.npy", PLAIN[0][1][:-9])], (), r"foo.tar: a.npy: .* bytes are expected .*cut off"),
        ([("a.json", b"{" * 9)], (), r"foo.tar: a.json: no JSON"),
        ([("a.json", b"[" * 99999)], (), r"foo.tar: a.json: no JSON"),
        ([("a.json", b'{"pose": [[1], [1, 2]]}')], (), r"foo.tar: a.json: lists of numbers, all of one length"),
        (
            [("a.json", b'{"pose": [1], "data": [2]}')],
            (),
            r"a: which .*--array json:pose or --array json:data",
        ),
        ([("a.cls", b"1")], (), r"foo.tar: a: no member holds an array .*; it has .cls"),
        (PLAIN, ("joint.npy",), r"foo.tar: a: has no member .joint.npy; it has .npy, .cls"),
        (PLAIN, ("npy", "json:label"), r"foo.tar: a: has no member .json for the label; it has .npy, .cls"),
        ([PLAIN[0], ("a.cls", b"\xff\xfe")], (), r"foo.tar: a.cls: a label is text"),
        ([PLAIN[0], ("a.json", b'{"label": [1]}')], (), r"foo.tar: a.json: a label is a number or a name"),
        (
            [PLAIN[0], ("a.cls", b"1"), ("a.txt", b"walk")],
            (),
            r"which is the label\? .*--label cls .* --label txt",
        ),
        (
            [("a.json", b'{"pose": [1], "label": 1, "action": 2}')],
            (),
            r"a: which is the label\? Say --label json:label \(here 1\) or --label json:action \(here 2\)",
        ),
        ([*PLAIN, ("a.json", b'{"action": 7}')], (), r"foo.tar: a.json: comes after the sample was complete"),
        ([PLAIN[0], PLAIN[0]], (), r"foo.tar: a.npy: is there twice"),
        ([*PLAIN, PLAIN[0]], (), r"foo.tar: a.npy: comes after the sample was complete"),
    ],
)
def test_a_bad_sample_is_refused_by_name(members: Members, fields: tuple[str, ...], message: str) -> None:
    with pytest.raises(RawError, match=message):
        read(tar(members), *fields)


def test_a_hostile_pickle_is_never_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path.touch, (tmp_path / "ran",)

    for name in ("a.pyd", "a.pkl", "a.npy", "a.pth", "a.joint.pickle"):
        with pytest.raises(RawError, match=f"foo.tar: {name}"):
            read(tar([(name, pickle.dumps(Hostile()))]))
    assert not (tmp_path / "ran").exists()


def test_damaged_tars_and_large_members(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tar(PLAIN, "w:gz")
    for content, message in [
        (whole[: len(whole) // 2], "damaged or cut off"),
        (tar(PLAIN)[:2000], "damaged or cut off|cut off"),
        (b"not a tar" * 99, "no tar, or one that is damaged"),
    ]:
        with pytest.raises(RawError, match=message):
            read(content)
    monkeypatch.setattr(web_shards, "MEMBER_BYTES", 1000)
    with pytest.raises(RawError, match=r"foo.tar: a.npy: 1,928 bytes are too many|foo.tar: a.npy: .* too many"):
        read(tar(PLAIN, "w:gz"))
    monkeypatch.setattr(web_shards, "MEMBER_BYTES", 10_000)
    monkeypatch.setattr(web_shards, "WAITING_BYTES", 3000)
    with pytest.raises(RawError, match="lie too far apart"):
        read(tar([*PLAIN[::2], *PLAIN[1::2]]))
    check(read(tar(PLAIN)))


def test_brace_patterns() -> None:
    assert expand_shards("train-{000009..000011}.tar") == [f"train-{n:06}.tar" for n in (9, 10, 11)]
    assert expand_shards("s3://b/{train,val}/0.tar.gz") == ["s3://b/train/0.tar.gz", "s3://b/val/0.tar.gz"]
    assert expand_shards("plain.tar") == ["plain.tar"]
    for pattern, message in [
        ("pipe:cat foo.tar", "pipe: would run a program"),
        (" PIPE:cat foo-{0..1}.tar", "pipe: would run a program"),
        ("foo-{0..3.tar", "braces do not match"),
        ("foo-{0..999999999}.tar", "more than 100,000 names"),
    ]:
        with pytest.raises(UsageError, match=message):
            expand_shards(pattern)


def test_names_of_tars() -> None:
    for name in ("a.tar", "a-{0..3}.tgz", "s3://b/a.tar.gz?region=x", "https://h/A.TAR", "pipe:cat a.tar"):
        assert is_web_shard(name)
    for name in ("data/ntu60", "a.zip", "dir.tar/x", "s3://b/ds?x=a.tar"):
        assert not is_web_shard(name)


@pytest.mark.parametrize("size", [1 << 40, 1 << 62])
def test_a_member_that_is_said_to_be_a_petabyte_is_not_skipped_for_hours(size: int) -> None:
    """Python's tarfile skips it in reads of 10 kB, whether or not there is anything to read."""
    info = tarfile.TarInfo("clip9.jpg")
    info.size = size
    content = tar(PLAIN).rstrip(b"\0")
    content += bytes(-len(content) % 512) + info.tobuf(tarfile.GNU_FORMAT)
    start = time.process_time()
    with pytest.raises(RawError, match="damaged or cut off after clip9.jpg: a member is longer than the file"):
        list(web_samples(io.BytesIO(content), "foo.tar", WebFields()))
    assert time.process_time() - start < 5
