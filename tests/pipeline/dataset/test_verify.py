"""`verify`: the digest from the content of a dataset, of a part of it, and after any part was exchanged.

Whoever exchanges something here also writes its new hash into the card, as a careful forger or a script would.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.dataset.card import card_digest, rows_hash
from skelpipe.dataset.verify import verify
from skelpipe.errors import DatasetError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import FORMATS, Options, prepare

# Of docs/dataset.md: the keys that the digest covers; the last two only where there are some.
CONTENT = ("name", "split", "options", "profile", "shape", "dtype", "layout", "classes", "views", "splits")
CONTENT += ("anchors", "samples", "channels", "untrimmed")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, skeleton_text, moving_bodies, ntu_names) -> dict[str, Path]:
    """One dataset in each container, by the name of the format."""
    root = tmp_path_factory.mktemp("verify")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names()):
        (root / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 9)))
    for name in FORMATS:
        options = Options("xsub", frames=8, bodies=1, shard_size=5)
        prepare(load_manifest("ntu60"), [root / "raw"], root / name, options, formats=FORMATS[name], quiet=True)
    return {name: root / name for name in FORMATS}


@pytest.fixture
def copied(made, tmp_path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(made[name], tmp_path / name))


def card_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "dataset.json").read_text())


def rewrite_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    card = card_of(folder)
    change(card)
    (folder / "dataset.json").write_text(json.dumps(card))


def naive_digest(folder: Path) -> str:
    """The digest of a dataset of shards, as docs/dataset.md defines it, by other libraries than the code's own."""
    card = card_of(folder)
    content = {key: card[key] for key in CONTENT if key in card}
    for subset, entry in content["splits"].items():
        for shard in entry["shards"]:
            for view, facts in shard["views"].items():
                path = folder / subset / view / f"{shard['name']}.tar"
                facts["sha256"] = sha256(path.read_bytes())
                facts["idx_sha256"] = sha256(path.with_suffix(".idx").read_bytes())
    for view, facts in content["anchors"].items():
        facts["sha256"] = sha256((folder / "anchors" / f"{view}.npy").read_bytes())
    rows = pq.read_table(folder / "samples.parquet").select(content["samples"]["columns"]).to_pylist()
    content["samples"]["sha256"] = sha256(b"".join(canonical(list(row.values())) + b"\n" for row in rows))
    return sha256(canonical(content))


def test_the_digest_is_that_of_the_content_in_any_container(made) -> None:
    expected = naive_digest(made["shards"])
    for name, folder in made.items():
        found = verify(Dataset.open(folder), deep=True, quiet=True)
        assert (found.damages, found.digest) == ([], expected), name


def new_table(folder: Path, column: str, row: int, value: object) -> None:
    table = pq.read_table(folder / "samples.parquet")
    values = table[column].to_pylist()
    values[row] = value
    at = table.column_names.index(column)
    table = table.set_column(at, column, pa.array(values, table.schema.field(column).type))
    pq.write_table(table, folder / "samples.parquet")
    hashed = {"sha256": sha256((folder / "samples.parquet").read_bytes())}
    rewrite_card(folder, lambda card: card.update(samples_file=hashed))


@pytest.mark.parametrize(
    ("column", "value"), [("label", 7), ("id", "S009C001P001R001A001"), ("split", "test"), ("note", "odd")]
)
def test_a_rewritten_table_is_noticed(copied, column, value) -> None:
    folder = copied("shards")
    new_table(folder, column, 2, value)
    found = verify(Dataset.open(folder), quiet=True)
    line = f"{folder}/samples.parquet: its rows are not those of the digest: ids, labels or subsets were changed"
    assert (found.damages, found.digest) == ([line], None)
    with pytest.raises(DatasetError, match="not those of the digest"):
        Dataset.open(folder).labels("train")


def test_a_rewritten_raw_file_is_noticed(copied) -> None:
    folder = copied("shards")
    new_table(folder, "raw_xxh128", 3, "0" * 32)
    assert verify(Dataset.open(folder), quiet=True).damages == [
        f"{folder}/samples.parquet: what it says of raw files is not the card's"
    ]


def hdf5_hashes(folder: Path) -> None:
    def change(card: dict[str, Any]) -> None:
        for facts in card["hdf5"].values():
            content = (folder / facts["file"]).read_bytes()
            facts |= {"sha256": sha256(content), "bytes": len(content)}

    rewrite_card(folder, change)


@pytest.mark.parametrize("name", ["hdf5", "both"])
@pytest.mark.parametrize("what", ["bone", "label", "classes"])
def test_a_rewritten_hdf5_file_is_noticed(copied, name, what) -> None:
    folder = copied(name)
    with h5py.File(folder / "train.h5", "r+") as file:
        if what == "bone":
            file["bone"][6, 1, 3, 4, 0] += 1
        elif what == "label":
            file["label"][4] = 9
        else:
            file.attrs["classes"] = [*file.attrs["classes"][1:], file.attrs["classes"][0]]
    hdf5_hashes(folder)
    shards = {"bone": ["bone/000001"], "label": [f"{view}/000000" for view in ("bone", "joint", "motion")]}
    expected = [
        f"clips, ids or labels of train/{shard} are not those of the digest" for shard in shards.get(what, [])
    ]
    expected = [f"{folder}/train.h5: {line}" for line in expected or ["its attribute 'classes' is not the card's"]]
    assert sorted(verify(Dataset.open(folder), quiet=True).damages) == expected
    assert sorted(verify(Dataset.open(folder), ["train.h5"], quiet=True).damages) == expected
    (folder / "samples.parquet").write_bytes(b"of no use for this part")
    assert sorted(verify(Dataset.open(folder), ["train.h5"], quiet=True).damages) == expected
    assert verify(Dataset.open(folder), ["test.h5"], quiet=True).damages == []


@pytest.mark.parametrize("name", ["hdf5", "both"])
@pytest.mark.parametrize("what", ["clip", "label", "missing", "longer"])
def test_an_hdf5_file_at_a_url_is_verified_by_its_content(copied, name, what, server) -> None:
    folder = copied(name)
    parts = ["train.h5"], ["train/joint/000001"], ["train"], []
    server.serve_folder(folder, "ds")
    dataset = Dataset.open(f"{server.url}/ds?sig=secret")
    assert [verify(dataset, part, quiet=True).damages for part in parts] == [[], [], [], []]
    with h5py.File(folder / "train.h5", "r+") as file:
        file["label" if what == "label" else "joint"][7] += 1
    if what == "longer":
        (folder / "train.h5").write_bytes((folder / "train.h5").read_bytes() + bytes(5000))
    else:
        hdf5_hashes(folder)
    server.serve_folder(folder, "ds")
    if what == "missing":
        del server.files["/ds/train.h5"]
    dataset = Dataset.open(f"{server.url}/ds?sig=secret")
    before = server.count()["/ds/train.h5"]
    for number, part in enumerate(parts):
        assert server.count()["/ds/train.h5"] - before == number  # each verification asks for it once
        found = verify(dataset, part, deep=part == [], quiet=True)
        assert found.damages
        assert any(line.startswith(f"{server.url}/ds/train.h5: ") for line in found.damages), found.damages
        assert "skelpipe-verify-" not in "".join(found.damages)  # the folder where it lies meanwhile
        assert found.digest is None or found.digest != dataset.digest or name == "both"
    assert verify(dataset, ["test.h5"], quiet=True).damages == []


@pytest.mark.parametrize(
    ("column", "value"),
    [("label", 60), ("label", -7), ("row", 99), ("row", -1), ("row", None), ("shard", "000009"), ("id", None)],
)
def test_a_table_that_its_digest_vouches_for_keeps_to_the_card(copied, column, value) -> None:
    folder = copied("shards")
    new_table(folder, column, 2, value)
    table = pq.read_table(folder / "samples.parquet")

    def vouch(card: dict[str, Any]) -> None:
        card["samples"]["sha256"] = rows_hash(table.select(card["samples"]["columns"]))
        card["digest"] = card_digest(card)

    rewrite_card(folder, vouch)
    with pytest.raises(DatasetError, match="that the card does not allow"):
        Dataset.open(folder).labels("train")


def test_another_anchor_is_noticed_where_it_is_used(copied) -> None:
    folder = copied("shards")
    np.save(folder / "anchors" / "joint.npy", np.load(folder / "anchors" / "joint.npy") + 1)
    with pytest.raises(DatasetError, match="anchors/joint.npy: damaged, or of another dataset"):
        Dataset.open(folder).anchor("joint")


def test_another_container_than_the_formats_say_is_noticed(copied) -> None:
    folder = copied("both")
    rewrite_card(folder, lambda card: card.update(formats=["shards"]))
    assert verify(Dataset.open(folder), quiet=True).damages == [
        f"{folder}/dataset.json: describes HDF5 files that its formats do not name: it was changed after prepare"
    ]
    rewrite_card(folder, lambda card: card.update(formats=["hdf5"]))
    damages = verify(Dataset.open(folder), quiet=True).damages
    assert f"{folder}/train/joint/000000.tar: is not a file of this dataset's card" in damages


@pytest.mark.parametrize("name", ["train/joint/000000.tar", "test/motion/000001.idx", "anchors/bone.npy"])
def test_a_rewritten_file_is_another_digest(copied, name) -> None:
    """The card cannot be given the new hash: its own digest covers that hash."""
    folder = copied("shards")
    path = folder / name
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    found = verify(Dataset.open(folder), quiet=True)
    assert found.damages == [f"{path}: damaged: its sha256 differs from the card"]
    assert found.digest == naive_digest(folder) != card_of(folder)["digest"]
    hashed = {view: {"sha256": "0" * 64} for view in ("joint", "bone", "motion")}
    rewrite_card(folder, lambda card: card.update(anchors=hashed))
    with pytest.raises(DatasetError, match="its digest does not match its content"):
        Dataset.open(folder)


def test_dropped_samples_and_stray_files(copied) -> None:
    folder = copied("shards")
    rewrite_card(folder, lambda card: card.update(dropped={"damaged": 3}))
    shutil.copy(folder / "train" / "joint" / "000000.tar", folder / "train" / "joint" / "000099.tar")
    (folder / "notes.txt").write_text("mine")
    assert verify(Dataset.open(folder), quiet=True).damages == [
        f"{folder}/samples.parquet: dropped samples are not the card's",
        f"{folder}/train/joint/000099.tar: is not a file of this dataset's card",
    ]


def folded(tree: dict[str, Any]) -> str:
    return sha256(
        canonical({name: folded(each) if isinstance(each, dict) else each for name, each in tree.items()})
    )


def test_a_part_is_verified_by_itself(copied, made) -> None:
    folder = copied("shards")
    broken = folder / "train" / "bone" / "000001.tar"
    broken.write_bytes(broken.read_bytes()[:-1] + b"x")
    dataset = Dataset.open(folder)
    files = {
        view: {path.name: sha256(path.read_bytes()) for path in (made["shards"] / "train" / view).iterdir()}
        for view in ("joint", "bone", "motion")
    }
    expected = {
        "train": folded(files),
        "train/joint": folded(files["joint"]),
        "train/bone/000000": folded({name: files["bone"][name] for name in ("000000.tar", "000000.idx")}),
        "train/bone/000001.tar": files["bone"]["000001.tar"],
        "samples": card_of(folder)["samples"]["sha256"],
        "anchors/joint": sha256((folder / "anchors" / "joint.npy").read_bytes()),
    }
    for part, hashed in expected.items():
        found = verify(dataset, [part], deep=True, quiet=True)
        assert found.parts == {part: hashed}
        assert bool(found.damages) == (part in ("train", "train/bone/000001.tar")), part
    with pytest.raises(
        UsageError, match=r"--part train/depth: there is no such part; there are: train/bone, train/"
    ):
        verify(dataset, ["train/depth"], quiet=True)
    hdf5 = verify(Dataset.open(made["hdf5"]), ["train/joint", "test.h5"], quiet=True)
    assert (hdf5.damages, hdf5.parts["train/joint"]) == ([], expected["train/joint"])


def test_the_command(copied) -> None:
    folder = copied("shards")
    shown = CliRunner().invoke(main, ["verify", "--shards", str(folder), "--part", "train/joint", "--deep"])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(
        f"{folder}: train/joint is as the digest says, and its files agree with each other\npart train/joint "
    )
    new_table(folder, "label", 0, 1)
    shown = CliRunner().invoke(main, ["verify", "--shards", str(folder), "--json"])
    assert shown.exit_code == 1
    content = json.loads(shown.stdout)
    assert content["computed"] is None
    assert len(content["damages"]) == 1
    assert CliRunner().invoke(main, ["verify", "--shards", str(folder), "--part", "x"]).exit_code == 2


def test_a_shard_with_another_label_is_noticed_by_deep_only(made, tmp_path) -> None:
    """All hashes and the digest are made anew: nothing but the comparison of shards with the table can see it."""
    folder = Path(shutil.copytree(made["shards"], tmp_path / "ds"))
    path = folder / "train" / "joint" / "000000.tar"
    content = bytearray(path.read_bytes())
    content[512:513] = b"9"  # the content of the first member, the label
    path.write_bytes(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        first = tar.next()
        assert first is not None
        assert first.name.endswith(".cls")
    rewrite_card(
        folder,
        lambda card: card["splits"]["train"]["shards"][0]["views"]["joint"].update(sha256=sha256(content)),
    )
    rewrite_card(folder, lambda card: card.update(digest=naive_digest(folder)))
    dataset = Dataset.open(folder)
    assert verify(dataset, quiet=True).damages == []
    identity = dataset.ids("train")[0]
    assert verify(dataset, deep=True, quiet=True).damages == [
        f"{path}: {identity}: its id or label is not that of the sample table"
    ]


def test_deep_of_anchors_and_views(made, tmp_path) -> None:
    folder = Path(shutil.copytree(made["shards"], tmp_path / "ds"))
    anchor = np.load(folder / "anchors" / "motion.npy")
    anchor[0, 2, 5, 0] += 1e-3
    np.save(folder / "anchors" / "motion.npy", anchor)
    path = folder / "test" / "bone" / "000001.tar"
    dataset = Dataset.open(folder)
    geometry = dataset.geometry("bone")
    content = bytearray(path.read_bytes())
    np.frombuffer(content, np.float32, 1, geometry.stride + geometry.data_offset)[0] += 0.5  # of the second clip
    path.write_bytes(content)
    rewrite_card(
        folder,
        lambda card: (
            card["splits"]["test"]["shards"][1]["views"]["bone"].update(sha256=sha256(path.read_bytes())),
            card["anchors"]["motion"].update(sha256=sha256((folder / "anchors" / "motion.npy").read_bytes())),
        ),
    )
    rewrite_card(folder, lambda card: card.update(digest=naive_digest(folder)))
    dataset = Dataset.open(folder)
    assert verify(dataset, quiet=True).damages == []
    assert verify(dataset, deep=True, quiet=True).damages == [
        f"{path}: {dataset.ids('test')[6]}: its bone is not derived from its joints",
        f"{folder}/anchors/motion.npy: is not the mean of the training clips",
    ]


@pytest.fixture
def pipe() -> Iterator[Callable[[Path], None]]:
    """Put a pipe in place of a file. Whoever still waits for it after a while gets its end."""
    made: list[Path] = []

    def put(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)
        made.append(path)

    def release() -> None:
        for path in made:
            with suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    late = threading.Timer(10, release)
    late.daemon = True
    late.start()
    yield put
    late.cancel()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes among its files")
@pytest.mark.parametrize(
    "name",
    ["samples.parquet", "train/joint/000000.tar", "train/joint/000000.idx", "anchors/joint.npy", "train.h5"],
)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(copied, pipe, name) -> None:
    """An archive that a dataset came in may hold pipes and devices."""
    folder = copied("both")
    pipe(folder / name)
    start = time.monotonic()
    dataset = Dataset.open(folder)
    found = verify(dataset, deep=True, quiet=True).damages
    assert f"{folder / name}: cannot be read: it is a pipe or a device, and no file" in found
    if not name.endswith((".idx", ".h5")):
        with pytest.raises(DatasetError, match=r"it is a pipe or a device, and no file"):
            dataset.anchor("joint") if "anchors" in name else dataset.reader("train", "joint")
    assert time.monotonic() - start < 8
