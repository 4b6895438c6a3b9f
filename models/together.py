"""Several batches through one network at once, where that takes fewer kernels: in training on a GPU.

Each batch is normalised by statistics of its own, in the order in which they would have passed one after another.
On a CPU activations of one batch are still in its caches when the next operation reads them: nothing is gained.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelpipe.models import gpu_block
from skelpipe.models.absent_bodies import computed_together
from skelpipe.models.batch_norm import Weights
from skelpipe.models.encoders import Encoder
from skelpipe.models.stgcn import STGCN

__all__ = ["joins", "maps_together", "passed"]


def maps_together(encoder: nn.Module, clips: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
    """Return the feature maps [N*M, D, T', V'] of batches of clips, as `encoder.features` returns them one by one.

    None where batches of these clips are to be passed one by one.
    """
    if not isinstance(encoder, STGCN) or encoder.absent_bodies == "masked":
        return None
    if len({x.shape for x in clips}) > 1 or not all(gpu_block.passes(encoder, x) for x in clips):
        return None
    rows, how = encoder.rows(torch.cat(list(clips))), encoder.absent_bodies
    computed = computed_together(clips, how, random=encoder.draws)
    if computed is None:
        return encoder.maps(rows, groups=len(clips)).chunk(len(clips))
    maps = encoder.maps(rows.index_select(0, computed.chosen), Weights(computed.counts), len(clips))
    spread = maps.permute(0, 2, 3, 1).index_select(0, computed.place).permute(0, 3, 1, 2)  # stays channels last
    return spread.chunk(len(clips))


def passed(encoder: Encoder, query: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Return h [N, D] of clips, as `encoder` does, and the feature maps of others, as `encoder.features` does."""
    maps = maps_together(encoder, (query, *others))
    if maps is None:
        return encoder(query), *map(encoder.features, others)
    return encoder.pool(maps[0], query.shape[4]), *maps[1:]


def joins(head: nn.Module, features: Tensor) -> bool:
    """Return whether a head takes the features [N, D] of several batches at once."""
    return features.device.type in gpu_block.ON and not any(
        isinstance(layer, _BatchNorm) for layer in head.modules()
    )
