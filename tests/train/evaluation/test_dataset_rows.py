"""Some rows of a dataset as a dataset: what streams, loaders and figures see; which rows a share of labels has."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

from skelpipe.augment.chain import chain
from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError, UsageError
from skelpipe.loader import Loader
from skelpipe.loader.stream import Stream
from skelpipe.manifest_file import load_manifest
from skelpipe.train.evaluation.dataset_rows import DatasetRows, labelled, labelled_rows, without_subject
from skelpipe.train.evaluation.embedding import embed

# 1 % and 10 % of the train subset (docs/evaluation.md, "Semi-supervised"), counted from the name lists.
TOTALS = {
    ("ntu60", "xsub"): (419, 4009),
    ("ntu60", "xview"): (360, 3763),
    ("ntu120", "xsub"): (659, 6288),
    ("ntu120", "xset"): (540, 5448),
}


SUBJECTS = (1, 2, 3, 6)  # of `tiny_dataset`; 1 and 2 are trained on in xsub


def subject(name: str) -> int:
    return int(name[name.index("P") + 1 :][:3])


def test_a_subject_left_out_is_tested_on_and_no_test_clip_is_seen(tiny_dataset: Dataset) -> None:
    part = without_subject(tiny_dataset, 2)
    whole = tiny_dataset.ids("train")
    assert {subject(name) for name in whole} == {1, 2}
    assert part.ids("train") == [name for name in whole if subject(name) == 1]
    assert part.ids("test") == [name for name in whole if subject(name) == 2]
    assert part.count("train") + part.count("test") == tiny_dataset.count("train")
    labels = dict(zip(whole, tiny_dataset.labels("train").tolist(), strict=True))
    for subset in ("train", "test"):
        assert part.labels(subset).tolist() == [labels[name] for name in part.ids(subset)]


@pytest.mark.parametrize("view", ["joint", "bone"])
def test_rows_are_those_of_the_whole(tiny_dataset: Dataset, view: str) -> None:
    part = without_subject(tiny_dataset, 1)
    whole = tiny_dataset.reader("train", view)
    everything = whole.gather(np.arange(len(whole)))
    for subset in ("train", "test"):
        rows = [tiny_dataset.ids("train").index(name) for name in part.ids(subset)]
        reader = part.reader(subset, view)
        backwards = np.arange(len(reader))[::-1]
        assert np.array_equal(reader.gather(backwards), everything[rows][::-1])
        out = np.empty((2, *part.shape), np.float32)
        assert np.array_equal(reader.gather(np.array([3, 0]), out), everything[[rows[3], rows[0]]])
    with pytest.raises(IndexError):
        part.reader("train", view).gather(np.array([part.count("train")]))


def test_shards_hold_the_rows_chosen_of_them(tiny_dataset: Dataset) -> None:
    rows = np.array([0, 1, 9, 10, 22])  # shards of ten, ten and four
    part = DatasetRows(tiny_dataset, {"train": ("train", rows), "test": ("test", np.array([5]))})
    assert part.shard_sizes("train").tolist() == [3, 1, 1]
    assert part.shard_sizes("test").tolist() == [1, 0, 0]
    assert part.count("train") == 5


def test_an_epoch_is_every_chosen_clip_once(tiny_dataset: Dataset) -> None:
    part = without_subject(tiny_dataset, 2)
    reader = tiny_dataset.reader("train", "joint")
    clips = dict(zip(tiny_dataset.ids("train"), reader.gather(np.arange(len(reader))), strict=True))
    stream = Stream(part, "train", ["joint"], 5, drop_last=False)
    names = part.ids("train")
    seen = []
    for batch in Loader(stream, "cpu", {"clip": None}):
        for index, label, clip in zip(batch.index.tolist(), batch.label.tolist(), batch.clip, strict=True):
            assert torch.equal(clip, torch.from_numpy(clips[names[index]]))
            assert label == part.labels("train")[index]
            seen.append(names[index])
    assert sorted(seen) == sorted(names)


def test_augmented_clips_are_the_same_memory_mapped_and_copied(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(1, 24, 2)
    part = DatasetRows(tiny_dataset, {"train": ("train", rows), "test": ("test", rows)})
    assert part.reader("train", "joint").mapped(np.array([3, 0])) is not None

    def epoch() -> list[torch.Tensor]:
        stream = Stream(part, "train", ["joint"], 5, drop_last=False)
        return [batch.clip.clone() for batch in Loader(stream, "cpu", {"clip": chain("normal")})]

    mapped = epoch()
    monkeypatch.setattr(type(part.reader("train", "joint")), "mapped", lambda *_: None)
    assert all(torch.equal(a, b) for a, b in zip(mapped, epoch(), strict=True))
    assert sum(len(batch) for batch in mapped) == 12


def test_embedding_a_part_equals_embedding_the_whole(tiny_dataset: Dataset) -> None:
    part, device = without_subject(tiny_dataset, 1), torch.device("cpu")
    whole = embed(torch.nn.Flatten(), tiny_dataset, "train", "motion", device=device)
    of = dict(zip(whole.ids, whole.features, strict=True))
    held = embed(torch.nn.Flatten(), part, "test", "motion", device=device, batch_size=5)
    assert held.ids == part.ids("test")
    assert torch.equal(held.features, torch.stack([of[name] for name in held.ids]))


def test_a_labelled_share_keeps_the_test_subset(tiny_dataset: Dataset) -> None:
    part = labelled(tiny_dataset, 0.25, seed=3)  # of eight clips per class
    assert np.bincount(part.labels("train"))[:3].tolist() == [2, 2, 2]
    assert part.ids("test") == tiny_dataset.ids("test")
    assert labelled(tiny_dataset, 0.25, seed=3).ids("train") == part.ids("train")
    assert labelled(tiny_dataset, 0.25, seed=4).ids("train") != part.ids("train")
    assert labelled(tiny_dataset, 1.0, seed=3) is tiny_dataset
    both = labelled(without_subject(tiny_dataset, 2), 0.5, seed=0)
    assert {subject(name) for name in both.ids("train")} == {1}
    assert np.bincount(both.labels("train"))[:3].tolist() == [2, 2, 2]


def test_each_choice_of_rows_has_a_digest_of_its_own(tiny_dataset: Dataset) -> None:
    parts = [without_subject(tiny_dataset, 1), without_subject(tiny_dataset, 2), labelled(tiny_dataset, 0.5, 0)]
    assert len({part.digest for part in [tiny_dataset, *parts]}) == 4
    assert without_subject(tiny_dataset, 1).digest == parts[0].digest
    state = Stream(parts[0], "train", ["joint"], 4).state()
    with pytest.raises(DatasetError, match="digest"):
        Stream(parts[1], "train", ["joint"], 4).load_state(state)


def test_chosen_rows_are_the_same_in_another_process(tiny_dataset: Dataset) -> None:
    part = without_subject(tiny_dataset, 2)
    sent = pickle.loads(pickle.dumps(part))
    assert (sent.digest, sent.ids("train"), sent.ids("test")) == (part.digest, part.ids("train"), part.ids("test"))


def test_what_cannot_be_left_out_is_named(tiny_dataset: Dataset, make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(UsageError, match=r"--holdout-subject 3: .*subjects: 1, 2$"):
        without_subject(tiny_dataset, 3)  # a test subject
    alone = make_dataset([f"S001C001P001R00{r}A001" for r in (1, 2)])
    with pytest.raises(DatasetError, match="all training clips are of subject 1"):
        without_subject(alone, 1)
    with pytest.raises(UsageError, match="--labels 0.01"):
        labelled(tiny_dataset, 0.01, 0)


@pytest.mark.parametrize(("dataset", "split"), TOTALS)
def test_totals_from_names_alone(dataset: str, split: str) -> None:
    manifest = load_manifest(dataset)
    rule = manifest.split(split)
    training = [
        (id_, fields["action"] - 1) for id_, fields in manifest.expected() if rule.subset(fields) == "train"
    ]
    ids, labels = [id_ for id_, _ in training], np.array([label for _, label in training])
    assert (len(labelled_rows(ids, labels, 0.01)), len(labelled_rows(ids, labels, 0.1))) == TOTALS[dataset, split]


def test_a_draw_is_one_of_the_class_and_knows_no_row_order() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(7), [5, 15, 25, 35, 100, 3, 45])
    ids = [f"clip{n:03}" for n in range(len(labels))]
    rows = labelled_rows(ids, labels, 0.1, seed=4)
    # half to even: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, 3.5 -> 4, 4.5 -> 4
    assert np.bincount(labels[rows], minlength=7).tolist() == [0, 2, 2, 4, 10, 0, 4]
    assert (np.diff(rows) > 0).all()
    order = rng.permutation(len(ids))
    moved = labelled_rows([ids[n] for n in order], labels[order], 0.1, seed=4)
    assert {ids[order[n]] for n in moved} == {ids[n] for n in rows}
    assert set(labelled_rows(ids, labels, 0.1, seed=5)) != set(rows)
    assert labelled_rows(ids, labels, 1.0).tolist() == list(range(len(ids)))


def test_every_sample_has_the_same_chance() -> None:
    labels = np.zeros(20, np.int64)
    ids = [f"S{n:03}" for n in range(20)]
    hits = np.zeros(20)
    for seed in range(2000):
        hits[labelled_rows(ids, labels, 0.25, seed)] += 1
    # binomial(2000, 1/4): five standard deviations are 97
    assert np.abs(hits - 500).max() < 97


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, 0.01])
def test_a_share_of_nothing_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="--labels"):
        labelled_rows(["a", "b"], np.array([0, 1]), share)
