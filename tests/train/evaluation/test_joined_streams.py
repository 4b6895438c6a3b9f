"""Several streams as one network: the features of each, from joints."""

from dataclasses import replace

import numpy as np
import torch

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.embedding import embed
from skelpipe.train.evaluation.evaluated_network import NetworkOptions, choose_network
from skelpipe.train.evaluation.joined_streams import join_streams

VIEWS = ("motion", "joint", "bone")


def test_features_stand_side_by_side_divided_by_their_number(tiny_dataset: Dataset) -> None:
    small = ("encoder.width=2", "encoder.out_channels=8", "queue=4")
    options = NetworkOptions(baseline="random", network="crosclr", network_settings=small, features="h")
    networks = [choose_network(tiny_dataset, replace(options, view=view, seed=3), print) for view in VIEWS]
    joined = join_streams(networks, tiny_dataset.layout)
    assert (joined.view, joined.stream, joined.streams, joined.feature_dim) == ("joint", "3s", VIEWS, 24)
    assert joined.name == networks[0].name

    device, rows = torch.device("cpu"), np.arange(5)
    alone = [embed(each.embedder, tiny_dataset, "test", each.view, device=device, rows=rows) for each in networks]
    together = embed(joined.embedder, tiny_dataset, "test", joined.view, device=device, rows=rows)
    expected = torch.cat([each.features for each in alone], dim=1) / 3
    torch.testing.assert_close(together.features, expected, rtol=1e-4, atol=1e-5)
