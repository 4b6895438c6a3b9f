"""ActCLR's released settings against the authors' configuration (divergence `actclr-training`), and its start."""

from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe.models.actclr import ActCLR
from skelpipe.models.method import Progress
from skelpipe.settings import flat
from skelpipe.skeleton import layout
from skelpipe.train.recipes.chosen import choose_recipe
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.running.networks import initialised

SMALL = ["encoder.width=2", "encoder.out_channels=8", "head.hidden=8", "head.dim=8", "queue=20"]
AUTHORS: dict[str, Any] = {
    "variant": "released",
    "frames": 50,
    "epochs": 350,
    "batch_size": 128,
    "optimiser.name": "sgd",
    "optimiser.lr": 0.1,
    "optimiser.momentum": 0.9,
    "optimiser.weight_decay": 1e-4,
    "optimiser.milestones": [250],
    "momentum": 0.999,
    "queue": 65536,
    "encoder.graph": "stgcn_capped",
    "encoder.width": 16,
    "head.dim": 128,
    "head.batch_norm": False,
    "actclr.moco_epochs": 0,
    "actclr.query_temperature": 0.1,
    "actclr.key_temperature": 0.04,
    "actclr.nearest": 8192,
}


def built(name: str, *settings: str) -> ActCLR:
    recipe = with_overrides(load_recipe(name), [*SMALL, *settings])
    method = initialised(recipe, layout("kinect-v2-25"), 0, anchor=lambda: torch.zeros(3, 50, 25, 2))
    assert isinstance(method, ActCLR)
    return method


def test_the_recipe_has_the_authors_values() -> None:
    values = flat(choose_recipe("actclr", "actclr-released").content())
    assert {key: values[key] for key in AUTHORS} == AUTHORS


def test_the_recipes_differ_where_paper_and_code_do() -> None:
    paper, released = (flat(load_recipe(name).content()) for name in ("actclr", "actclr-released"))
    assert paper["variant"] == "paper"
    training = {"epochs", "optimiser.name", "optimiser.lr", "optimiser.milestones", "queue", "actclr.moco_epochs"}
    training |= {"actclr.mask", "optimiser.beta2"}
    keys = paper.keys() | released.keys()
    assert {key for key in keys if paper.get(key) != released.get(key)} == {"variant", *training}


def test_the_second_stage_begins_in_the_first_epoch_with_a_new_key_network_and_queue() -> None:
    method = built("actclr-released")
    assert method.needs_trained_networks()
    with torch.no_grad():
        for parameter in [*method.moco.encoder.parameters(), *method.moco.head.parameters()]:
            parameter.add_(1.0)
    method.moco.pointer.fill_(3)
    queue = method.moco.queue.clone()
    method.advance(Progress(0, epochs=350, step=0, steps=9))
    assert "mixed" in method.views()

    def weights() -> list[Tensor]:
        return [*method.moco.key_encoder.state_dict().values(), *method.moco.key_head.state_dict().values()]

    queries = [*method.moco.encoder.state_dict().values(), *method.moco.head.state_dict().values()]
    assert all(torch.equal(key, query) for key, query in zip(weights(), queries, strict=True))
    assert not torch.equal(method.moco.queue, queue)
    assert torch.allclose(method.moco.queue.norm(dim=1), torch.ones(20))
    assert int(method.moco.pointer) == 0

    queue = method.moco.queue.clone()
    with torch.no_grad():
        for parameter in method.moco.encoder.parameters():
            parameter.add_(1.0)
    for epoch, step in ((0, 1), (1, 0)):  # later steps and epochs keep the key network and the queue
        method.advance(Progress(epoch, epochs=350, step=step, steps=9))
        assert torch.equal(method.moco.queue, queue)
        key, query = method.moco.key_encoder.input_norm, method.moco.encoder.input_norm
        assert torch.allclose(key.weight + 1.0, query.weight)


@pytest.mark.parametrize(("settings", "trained"), [([], False), (["actclr.moco_epochs=0"], True)])
def test_trained_networks_are_needed_only_without_a_first_stage(settings: list[str], trained: bool) -> None:
    assert built("actclr", *settings).needs_trained_networks() == trained
