"""What is tried with damaged files: each parser, and what it must agree with where it takes one.

A target gets the bytes of a file. It returns True where the parser took it and False where the parser refused it
with an error for people. Anything else that is raised is a fault: `MessageError` where that error is not one short
line, `AssertionError` where what was taken differs from what a plainer program reads.
"""

import contextlib
import hashlib
import io
import json
import os
import pickle
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from fuzzing import cards, more_files, plain_readers, seeds
from fuzzing.edits import damaged, draw

from skelpipe.dataset.card import parse_samples
from skelpipe.dataset.containers import map_rows
from skelpipe.dataset.tar_shard import TAIL, Geometry
from skelpipe.errors import SkelpipeError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare.shard_writer import new_block
from skelpipe.raw.archive import list_members, read_member
from skelpipe.raw.form import Form
from skelpipe.raw.frame_lines import read_frame_line
from skelpipe.raw.gzipped import gunzip
from skelpipe.raw.label_table import read_label_table
from skelpipe.raw.labels import read_segments
from skelpipe.raw.msr import read_msr
from skelpipe.raw.npy import read_array, read_array_or_archive, read_npy
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.nw_ucla import read_nw_ucla
from skelpipe.raw.pku import read_pku
from skelpipe.raw.plain_pickle import load_pickle
from skelpipe.raw.poses.formats import POSE_FORMATS
from skelpipe.raw.readers import READERS
from skelpipe.raw.tar_archive import list_tar, read_tar_member
from skelpipe.raw.text import read_as_text
from skelpipe.raw.web_shards import WebFields, web_samples
from skelpipe.skeleton import layout, parse_layout
from skelpipe.yaml_reader import parse_yaml

__all__ = ["TARGETS", "MessageError", "Target"]

NAME = "file"
LONGEST = 500  # characters of a message
JOINTS = seeds.JOINTS
YAML_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
FORM = Form(seeds.SMALL, bodies=2, channels=("x", "y", "z"), axes=("T", "M", "V", "C"))


def by_edits(whole: bytes, random: Random) -> bytes:
    """Return a file damaged as `edits` draws it."""
    return damaged(whole, draw(random))


@dataclass(frozen=True)
class Target:
    """`kind` groups targets for figures; `share` is how many inputs it gets, compared with the others.

    `damage` makes a damaged file of a whole one.
    """

    name: str
    kind: str
    seeds: tuple[bytes, ...]
    run: Callable[[bytes], object]
    share: int = 1
    damage: Callable[[bytes, Random], bytes] = by_edits

    def tried(self, content: bytes) -> bool:
        """Return whether the parser took the content; raises what is a fault."""
        try:
            self.run(content)
        except SkelpipeError as error:
            _check_message(str(error))
            return False
        return True


class MessageError(AssertionError):
    """A message that is not one line which a terminal can show."""


def _check_message(message: str) -> None:
    if not message.isprintable() or len(message) > LONGEST:
        raise MessageError(f"{len(message)} characters: {message[:300]!r}")


def _bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content + b"\n", np.uint8)


def _against(
    read: Callable[[np.ndarray, str, int], Any], plain: Callable[[bytes, int], plain_readers.Plain], *, close: bool
) -> Callable[[bytes], object]:
    """Return a target that compares two readers of text; `close`: numbers may differ by 2 ulp."""

    def run(content: bytes) -> object:
        found = read_as_text(lambda text: read(text, NAME, JOINTS), _bytes(content), NAME)
        try:
            counts, ids, xyz = plain(content, JOINTS)
        except (ValueError, KeyError, StopIteration) as error:
            if isinstance(error, json.JSONDecodeError):
                return found
            raise AssertionError(f"taken, and a plain reader refuses it: {error!r}") from None
        assert found.counts.tolist() == counts, "the counts of bodies differ"
        assert found.ids.tolist() == ids, "the ids differ"
        assert found.xyz.shape == xyz.shape, "there are other positions"
        same = found.xyz == xyz
        if close:
            with np.errstate(invalid="ignore", over="ignore"):
                same |= np.abs(found.xyz - xyz) <= 2 * np.spacing(np.abs(xyz))
        assert (same | (np.isnan(found.xyz) & np.isnan(xyz))).all(), "the positions differ"
        return found

    return run


def _npy(content: bytes) -> object:
    found = read_array(np.frombuffer(content, np.uint8), NAME)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = np.load(io.BytesIO(content), allow_pickle=False)
    assert found.dtype == plain.dtype
    assert found.tobytes() == plain.tobytes()
    return read_npy(_bytes(content), NAME, FORM)


def _npz(content: bytes) -> object:
    found = read_array_or_archive(np.frombuffer(content, np.uint8), NAME)
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            plain = np.load(io.BytesIO(archive.read(archive.namelist()[0])), allow_pickle=False)
        assert found.tobytes() == plain.tobytes()
    return read_npy(_bytes(content), NAME, FORM)


class _NoNames(pickle._Unpickler):  # type: ignore[name-defined]
    """Python's own unpickler, which here cannot reach any function. The one in C misreads wrong frames."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError("no names")


def _pickle(content: bytes) -> object:
    found = load_pickle(content, NAME)
    try:
        plain = _NoNames(io.BytesIO(content), encoding="latin1").load()
    except Exception:  # it may end in any way, also where ours reads on
        return found
    assert repr(found) == repr(plain), "another program reads something else"
    return found


def _poses(reader: str) -> Callable[[bytes], object]:
    channels = (POSE_FORMATS[reader].channels or ((),))[0]
    form = Form(
        layout("mediapipe-33") if reader == "mediapipe" else seeds.SMALL, 2, channels, image_size=(640, 480)
    )
    return lambda content: READERS[reader](_bytes(content), NAME, form)


@cache
def _folder() -> Path:
    """A folder in memory, where there is one, for parsers that open files."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="skelpipe-fuzz-", dir=place))


@contextlib.contextmanager
def _file(content: bytes, suffix: str) -> Iterator[Path]:
    path = _folder() / f"file{suffix}"
    path.write_bytes(content)
    try:
        yield path
    finally:
        path.unlink()


def _zip(content: bytes) -> object:
    with _file(content, ".zip") as path:
        members = list(list_members(path))
        found = [(name, read_member(str(path), member, NAME)) for name, member in members]
        with zipfile.ZipFile(path) as archive:
            try:
                plain = [archive.read(info) for info in archive.infolist() if not info.is_dir()]
            except (
                zipfile.BadZipFile,
                IndexError,
                NotImplementedError,
                EOFError,
                RuntimeError,
            ):  # a name that is not the directory's, or none
                return found
    assert [member for _, member in found] == plain
    return found


def _tar(content: bytes) -> object:
    with _file(content, ".tar") as path:
        members = list(list_tar(path)[1])
        found = [(name, read_tar_member(str(path), member, NAME)) for name, member in members]
        plain = []
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                if info.isreg() and not info.issparse():
                    reader = archive.extractfile(info)
                    assert reader is not None
                    plain.append((info.name, reader.read()))
    assert found == plain
    return found


def _gzip(content: bytes) -> object:
    found = gunzip(content, NAME)
    if content[:2] == b"\x1f\x8b":
        import gzip

        assert found == gzip.decompress(content)
    return found


def _web_shard(content: bytes) -> object:
    return list(web_samples(io.BytesIO(content), NAME, WebFields("npy", "cls")))


def _yaml(content: bytes) -> object:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    found = parse_yaml(text, NAME)
    assert repr(found) == repr(yaml.load(text, YAML_LOADER)), "PyYAML reads something else"
    return found


def _manifest(content: bytes) -> object:
    with _file(content, ".yaml") as path:
        return load_manifest(str(path))


def _layout(content: bytes) -> object:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return parse_layout(parse_yaml(text, NAME), NAME)


def _table(content: bytes) -> object:
    columns = seeds.table_columns()
    try:  # the rows that the card vouches for are those that pyarrow reads
        plain = pq.read_table(io.BytesIO(content), use_threads=False, memory_map=False).to_pydict()
        lines = [
            json.dumps(row, separators=(",", ":"), default=str) + "\n" for row in zip(*plain.values(), strict=True)
        ]
        rows = hashlib.sha256("".join(lines).encode()).hexdigest()
    except Exception:
        plain, rows = None, "0" * 64
    card = {
        "samples_file": {"sha256": hashlib.sha256(content).hexdigest()},
        "samples": {"rows": len(columns["id"]), "columns": list(columns), "sha256": rows},
    }
    found = parse_samples(content, card, "ds")
    assert found.to_pydict() == plain, "pyarrow reads something else"
    return found


def _on_disk(suffix: str, run: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Return a target of a parser that opens a file."""

    def tried(content: bytes) -> object:
        with _file(content, suffix) as path:
            return run(path)

    return tried


GEOMETRY = Geometry("joint", (3, 2, JOINTS, 2))
IDS = ["a", "b", "c"]


def _shard() -> bytes:
    block = new_block(GEOMETRY, IDS, [0, 1, 2])
    GEOMETRY.arrays(block)[:] = np.arange(3 * 36).reshape(3, 3, 2, JOINTS, 2)
    return block.tobytes() + TAIL


def _map_shard(content: bytes) -> object:
    rows = map_rows(np.frombuffer(content, np.uint8), GEOMETRY, IDS, NAME)
    assert rows.shape == (3, 36)
    return rows


def _weights() -> bytes:
    import torch
    from safetensors.torch import save

    return save({"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}, metadata={"a": "b"})


def _load_weights(content: bytes) -> object:
    import torch

    from skelpipe.models.weights import load_encoder

    encoder = torch.nn.Linear(3, 2)
    with _file(content, ".safetensors") as path:
        found = load_encoder(path, encoder)
        size = int.from_bytes(content[:8], "little")
        facts = json.loads(content[8 : 8 + size])
        start, end = (8 + size + at for at in facts["weight"]["data_offsets"])
    assert encoder.weight.detach().numpy().tobytes() == content[start:end]
    return found


def _label_table(content: bytes) -> object:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return None
    return read_label_table(lines, NAME, "id")


def _text(
    name: str, files: tuple[bytes, ...], read: Any, plain: Any, share: int, *, close: bool = False
) -> Target:
    return Target(name, "recording", files, _against(read, plain, close=close), share)


def _mediapipe() -> bytes:
    rng = np.random.default_rng(1)
    return seeds.npy(np.concatenate([rng.uniform(0.2, 0.8, (2, 33, 3)), np.full((2, 33, 1), 0.5)], axis=2))


TARGETS: tuple[Target, ...] = (
    _text("ntu", (seeds.ntu(), seeds.ntu(b"\r\n")), read_skeleton, plain_readers.ntu, 8, close=True),
    _text("pku", (seeds.pku(),), read_pku, plain_readers.pku, 4),
    _text("msr", (seeds.msr(),), read_msr, plain_readers.msr, 4),
    _text("n-ucla", (seeds.nw_ucla(),), read_nw_ucla, plain_readers.nw_ucla, 4),
    Target(
        "npy",
        "recording",
        (seeds.npy(seeds.XYZ), seeds.npy(np.asfortranarray(seeds.XYZ.astype(np.float32)))),
        _npy,
        4,
    ),
    Target("npz", "recording", (seeds.npz(packed=False), seeds.npz(packed=True)), _npz, 2),
    Target(
        "pickle",
        "recording",
        (
            *(seeds.as_pickle(protocol, seeds.PLAIN) for protocol in range(6)),
            *(seeds.as_pickle(protocol, {"keypoint": seeds.XYZ}) for protocol in (2, 4, 5)),
        ),
        _pickle,
        4,
    ),
    *(
        Target(name, "recording", (_mediapipe() if name == "mediapipe" else content,), _poses(name))
        for name, content in seeds.poses().items()
    ),
    Target("frame line", "recording", (seeds.FRAME_LINE,), lambda line: read_frame_line(line, NAME, FORM)),
    Target("segments", "labels", (seeds.SEGMENTS,), lambda content: read_segments(_bytes(content), NAME)),
    Target("label table", "labels", (seeds.LABELS_CSV, seeds.LABELS_JSON), _label_table),
    Target("gzip", "archive", (seeds.gzipped(seeds.ntu()),), _gzip),
    Target("zip", "archive", (seeds.zipped(), seeds.zipped(zipfile.ZIP_STORED)), _zip),
    Target("tar", "archive", tuple(seeds.tarred(kind) for kind in (1, 2)), _tar),
    Target("web shard", "archive", (seeds.web_shard(),), _web_shard),
    Target("yaml", "yaml", (seeds.YAML, seeds.LAYOUT), _yaml),
    Target("manifest", "yaml", (seeds.MANIFEST,), _manifest),
    Target("layout", "yaml", (seeds.LAYOUT,), _layout),
    Target("card", "card", (cards.card(),), cards.read_all, damage=cards.damaged_card),
    Target("sample table", "dataset", (seeds.table(), seeds.table("snappy"), seeds.table("none")), _table),
    Target("columns", "dataset", (cards.table(),), cards.read_with_table, damage=cards.damaged_table),
    Target("shard", "dataset", (_shard(),), _map_shard),
    Target("recipe", "yaml", more_files.recipe_seeds(), _on_disk(".yaml", more_files.recipe)),
    Target("split list", "labels", (more_files.SPLIT_LIST,), _on_disk(".txt", more_files.split_list)),
    Target("anchor", "dataset", (more_files.ANCHOR,), more_files.anchor),
    Target("hdf5", "dataset", (more_files.hdf5_seed(_folder()),), _on_disk(".h5", more_files.hdf5_file)),
    Target("scores", "run", (more_files.scores_seed(_folder()),), _on_disk(".parquet", more_files.scores)),
    Target("pyskl", "import", (more_files.annotations(),), _on_disk(".pkl", more_files.importing)),
    Target("ctr-gcn", "import", (more_files.graph_arrays(),), _on_disk(".npz", more_files.importing)),
    Target("torch file", "weights", more_files.torch_seeds(), _on_disk(".pt", more_files.torch_file)),
    Target("weights", "weights", (_weights(),), _load_weights),
)
