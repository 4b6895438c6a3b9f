import pytest

from skelpipe.raw.collections.contents import split_of_path, subset_of_name


@pytest.mark.parametrize(
    ("name", "subset"),
    [
        ("train_data.npy", "train"),
        ("val_data_joint.npy", "test"),
        ("NTU-test.npy", "test"),
        ("xsub_validation", "test"),
        ("training", "train"),
        ("data.npy", None),
        ("constrained.npy", None),
        ("train_test.npy", None),
    ],
)
def test_the_words_of_a_name_say_the_subset(name: str, subset: str | None) -> None:
    assert subset_of_name(name) == subset


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/NTU60_CS.npz", "xsub"),
        ("data/NTU60_CV.npz", "xview"),
        ("NTU120_CSet.npz", "xset"),
        ("NTU-RGB-D/xview/train_data.npy", "xview"),
        ("frame50/xsub/train_position.npy", "xsub"),
        ("xview/NTU60_CS.npz", "xsub"),
        ("data/train_data.npy", ""),
        ("xsub/xview/more/train_data.npy", ""),
    ],
)
def test_a_file_or_its_folder_says_the_split(path: str, split: str) -> None:
    assert split_of_path(path) == split
