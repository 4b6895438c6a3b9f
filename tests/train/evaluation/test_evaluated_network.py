"""The choice of the evaluated network: what it is, what must fit the dataset, refused options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.train.evaluation.evaluated_network import EvaluatedNetwork, NetworkOptions, choose_network


@pytest.fixture
def choose(tiny_dataset: Dataset) -> Callable[..., EvaluatedNetwork]:
    def make(dataset: Dataset = tiny_dataset, **options: Any) -> EvaluatedNetwork:
        return choose_network(dataset, NetworkOptions(**{"features": "h", **options}), print)

    return make


def clips_of(dataset: Dataset, view: str = "joint") -> torch.Tensor:
    return torch.from_numpy(dataset.reader("test", view).gather(np.arange(4)))


def test_raw_coordinates_are_flattened_clips(
    choose: Callable[..., EvaluatedNetwork], tiny_dataset: Dataset
) -> None:
    network = choose(baseline="raw", view="bone")
    assert (network.view, network.features, network.feature_dim) == ("bone", "raw", 3 * 8 * 25)
    clips = clips_of(tiny_dataset)
    assert torch.equal(network.encoder(clips), clips.reshape(4, -1))
    assert network.recipe is None
    assert network.method is None


def test_a_checkpoint_gives_encoder_head_and_where_it_comes_from(
    choose: Callable[..., EvaluatedNetwork], tiny_dataset: Dataset, finished: Path
) -> None:
    h, z = (choose(checkpoint=str(finished), features=features) for features in ("h", "z"))
    assert h.embedder is h.encoder
    assert h.feature_dim == z.feature_dim == 8
    assert (z.method, z.trained_on, z.view) == ("skeletonclr", "ntu60-xsub", "joint")
    assert "6 epochs on ntu60-xsub" in z.name
    assert z.recipe is not None
    clips = clips_of(tiny_dataset)
    with torch.no_grad():
        for each in (h.encoder, z.embedder, z.encoder):
            each.eval()
        assert torch.equal(h.encoder(clips), z.encoder(clips))
        assert z.embedder(clips).shape == (4, 8)
        assert not torch.equal(z.embedder(clips), z.encoder(clips))


def test_a_random_network_has_the_method_but_no_figures(
    choose: Callable[..., EvaluatedNetwork], finished: Path, small_settings: list[str]
) -> None:
    settings = tuple(setting for setting in small_settings if setting != "--set")
    network = choose(baseline="random", network="aimclr", network_settings=settings, seed=4)
    assert (network.method, network.recipe, network.trained_on) == ("aimclr", None, None)
    assert "seed 4" in network.name
    of_run = choose(baseline="random", checkpoint=str(finished))
    assert (of_run.method, of_run.recipe, of_run.feature_dim) == ("skeletonclr", None, 8)


@pytest.mark.parametrize(
    ("change", "view", "said"),
    [
        ({"shape": [3, 9, 25, 1]}, "joint", ["frames: trained on 8, asked for 9"]),
        ({"shape": [3, 8, 25, 2]}, "joint", ["bodies: trained on 1, asked for 2"]),
        ({"profile": {"name": "ctrgcn", "version": 1}}, "joint", ["preprocessing profile: trained on crosclr"]),
        ({}, "motion", ["view: trained on joint, asked for motion"]),
        (
            {"shape": [3, 9, 25, 2], "profile": {"name": "ctrgcn", "version": 1}},
            "bone",
            [
                "view: trained on joint",
                "frames: trained",
                "bodies: trained",
                "profile: trained on crosclr, asked",
            ],
        ),
    ],
)
def test_every_field_that_does_not_fit_is_named(
    choose: Callable[..., EvaluatedNetwork],
    tiny_dataset: Dataset,
    finished: Path,
    change: dict[str, Any],
    view: str,
    said: list[str],
) -> None:
    other = Dataset(tiny_dataset.path, {**tiny_dataset.card, **change})
    with pytest.raises(UsageError) as caught:
        choose(other, checkpoint=str(finished), view=view)
    for text in said:
        assert text in str(caught.value)
    assert str(caught.value).count("trained on") == len(said)
    assert str(finished / "encoder.safetensors") in str(caught.value)


def test_another_layout_is_named(
    choose: Callable[..., EvaluatedNetwork], tiny_dataset: Dataset, finished: Path
) -> None:
    plain = {**tiny_dataset.card["layout"], "name": "other-25"}
    other = Dataset(tiny_dataset.path, {**tiny_dataset.card, "layout": plain})
    with pytest.raises(UsageError, match="layout: trained on kinect-v2-25, asked for other-25"):
        choose(other, checkpoint=str(finished))


def test_another_split_classes_or_digest_are_transfer(
    choose: Callable[..., EvaluatedNetwork], tiny_dataset: Dataset, finished: Path
) -> None:
    change = {"name": "pkummd1", "split": "xview", "digest": "0" * 64, "classes": ["a", "b"]}
    network = choose(Dataset(tiny_dataset.path, {**tiny_dataset.card, **change}), checkpoint=str(finished))
    assert network.trained_on == "ntu60-xsub"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "name what to evaluate"),
        ({"baseline": "raw", "network": "aimclr"}, "takes neither"),
        ({"baseline": "raw", "network_settings": ("init=default",)}, "it needs --baseline random"),
        ({"checkpoint": "nowhere"}, "there is no such run"),
        ({"checkpoint": "x", "network": "aimclr"}, "a checkpoint brings its own"),
    ],
)
def test_contradictions(choose: Callable[..., EvaluatedNetwork], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose(**options)
