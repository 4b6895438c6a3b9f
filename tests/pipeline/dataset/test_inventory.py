"""The list of a dataset's files: complete for what `prepare` writes, and for every container."""

from skelpipe.dataset.inventory import DataFile, inventory
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare


def test_it_lists_every_file_of_a_dataset_but_readme_and_card(raw_folder, ntu_names, tmp_path) -> None:
    out = tmp_path / "ds"
    manifest = load_manifest("ntu60")
    card = prepare(manifest, [raw_folder(ntu_names())], out, Options("xsub", 10, 2, 5), quiet=True).card
    files = list(inventory(card))
    there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {file.name for file in files} == there - {"README.md", "dataset.json"}
    assert len(files) == len(there) - 2
    for file in files:
        size = (out / file.name).stat().st_size
        assert file.size in (None, size)
        assert size <= file.most <= size + (2 << 20)


def test_containers_and_untrimmed_videos() -> None:
    shard = {"name": "000000", "samples": 2, "views": {"joint": {"sha256": "j", "bytes": 1, "idx_sha256": "i"}}}
    card = {
        "formats": ["hdf5"],
        "splits": {"train": {"shards": [shard]}, "test": {"shards": []}},
        "hdf5": {"train": {"file": "train.h5", "bytes": 7, "sha256": "h"}},
        "untrimmed": {"test": {"shards": [{"name": "000003", "bytes": 8, "sha256": "u"}]}},
        "samples_file": {"sha256": "s"},
        "samples": {"rows": 2},
        "shape": [3, 10, 25, 2],
        "anchors": {"absent": "the training side is empty"},
    }
    last = DataFile("samples.parquet", "s", None, (1 << 20) + 2 * 2048)
    others = [DataFile("train.h5", "h", 7, 7), DataFile("untrimmed/test/000003.tar", "u", 8, 8), last]
    assert list(inventory(card)) == others
    shards = [
        DataFile("train/joint/000000.tar", "j", 1, 1),
        DataFile("train/joint/000000.idx", "i", None, 3 * 1024),
    ]
    assert list(inventory({**card, "formats": ["shards", "hdf5"]})) == [*shards, *others]
    plain = {key: card[key] for key in ("splits", "samples_file", "samples", "shape")}
    anchors = {"bone": {"sha256": "b"}}
    assert list(inventory({**plain, "anchors": anchors})) == [
        *shards,
        last,
        DataFile("anchors/bone.npy", "b", None, 8 * 3 * 10 * 25 * 2 + 4096),
    ]
