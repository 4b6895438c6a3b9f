"""ST-GCN's training pass on a GPU, by fewer kernels that move fewer bytes; the outcome is that of the modules.

- Batch normalisation, dropout, residual and rectifier are two kernels forward and two backward (`gpu_ops`).
- Biases are added as these kernels read; normalisation takes that of a temporal convolution out again, which has
  no gradient therefore.
- The weights of all blocks are put together, laid out and converted to autocast's type by a few kernels.
- A graph convolution is one kernel, and its backward pass two, which add the gradient of the residual path.
- Several batches, one after the other, are passed at once, each normalised by itself (`groups`).

`network` is an `STGCN` everywhere, `block` one of its blocks.
"""

import warnings
from collections.abc import Iterator
from functools import cache
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from skelpipe.devices import sent
from skelpipe.models import gpu_ops
from skelpipe.models.batch_norm import Repeats, Weights

__all__ = ["ON", "gpu_maps", "passes", "ready", "table_of"]

ON: Final = ["cuda"]  # types of devices
TYPES: Final = (torch.float32, torch.bfloat16, torch.float16)  # of clips


def passes(network: Any, x: Tensor) -> bool:
    """Return whether `gpu_maps` can take clips or rows x, on the same device as the network, with this network."""
    if x.device.type not in ON or not network.training or torch.compiler.is_compiling() or x.requires_grad:
        return False
    if "maps" in vars(network) or not all(_is_plain(module) for module in network.modules()):
        return False  # the first: somebody compiled it
    return x.device.type != "cuda" or (x.dtype in TYPES and ready())


@cache
def ready() -> bool:
    """Return whether the operations work on a GPU; say once where they do not.

    They are tried first: kernels that are compiled for a machine are not to be trusted there unseen.
    """
    try:
        from skelpipe.models import gpu_kernels  # loads triton

        for name in gpu_ops.NAMES:
            gpu_ops.put(name, getattr(gpu_kernels, name), "CUDA")
        wrong = list(gpu_ops.differences(torch.device("cuda")))
    except Exception as error:  # of a compiler, a driver or a linker
        wrong = [f"{type(error).__name__}: {error}".partition("\n")[0]]
    if wrong:
        warnings.warn(f"training steps take more kernels than they need: {wrong[0]}", stacklevel=2)
    return not wrong


def _is_plain(module: nn.Module) -> bool:
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return False
    if not isinstance(module, _BatchNorm):
        return True
    alone = getattr(module, "total", None) is None  # statistics are those of one process
    return (
        alone and module.training and module.affine and module.track_running_stats and module.momentum is not None
    )


def gpu_maps(network: Any, rows: Tensor, repeats: Repeats | Weights | None, groups: int) -> Tensor:
    """Return what `network.maps` does, [R, D, T', V], of rows [R, T, V, C] of `groups` batches of equal size."""
    blocks = list(network.blocks)
    low = _compute_type(rows)
    weights = _weights(network, low)
    counts = None if repeats is None else repeats.weights(rows.new_empty((), dtype=torch.float32))
    how = _How(groups, counts, low)
    seeds = _seeds(blocks, rows.device)
    frames = rows.reshape(-1, network.input_norm.num_features)
    x = _normalised(network.input_norm, frames, how, rectify=False).view(rows.shape)
    for block, ready, seed in zip(blocks, weights, seeds, strict=True):
        x = _block(block, ready, x, seed, how)
    return x.permute(0, 3, 1, 2)


class _How(NamedTuple):
    """Batches that are passed together, for how many each row stands, and the type of activations."""

    groups: int
    counts: Tensor | None
    dtype: torch.dtype


class _Ready(NamedTuple):
    """The weights of a block in the type and layout in which they are used."""

    gather: Tensor  # [V * K, V]
    maps: Tensor  # [C_out, K * C_in]
    offset: Tensor  # [V, C_out], what the biases of `maps` add to each joint
    temporal: Tensor  # [C_out, C_out, 9, 1], channels last
    shortcut: Tensor | None  # [C_out, C_in]


def _block(block: Any, ready: _Ready, x: Tensor, seed: Tensor | None, how: _How) -> Tensor:
    y, around, beside = _Spatial.apply(x, ready.gather, ready.maps, ready.offset, ready.shortcut, block.stride)
    y = _normalised(block.spatial_norm, y, how, offset=ready.offset.detach())
    stride, padding = block.temporal.stride, block.temporal.padding
    y = F.conv2d(y.permute(0, 3, 1, 2), ready.temporal, None, stride, padding).permute(0, 2, 3, 1)
    if block.shortcut is not None and block.shortcut_norm is not None:
        around = _normalised(block.shortcut_norm, beside, how, offset=_row(block.shortcut.bias), rectify=False)
    elif not block.residual:
        around = None
    p = block.dropout.p
    return _normalised(
        block.temporal_norm, y, how, offset=_row(block.temporal.bias), around=around, seed=seed, p=p
    )


def _row(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()[None]


def _seeds(blocks: list[Any], device: torch.device) -> list[Tensor | None]:
    """Return the seed of each block's dropout, int64 [1], from torch's generator of the device."""
    if not any(block.dropout.p for block in blocks):
        return [None] * len(blocks)
    drawn = torch.randint(2**62, (len(blocks), 1), device=device)
    return [seed if block.dropout.p else None for block, seed in zip(blocks, drawn.unbind(), strict=True)]


def _compute_type(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _normalised(
    layer: _BatchNorm,
    x: Tensor,
    how: _How,
    *,
    offset: Tensor | None = None,
    around: Tensor | None = None,
    seed: Tensor | None = None,
    p: float = 0.0,
    rectify: bool = True,
) -> Tensor:
    y: Tensor = _Finished.apply(
        x, offset, layer.weight, layer.bias, around, seed, layer, how, p if seed is not None else 0.0, rectify
    )
    return y


class _Finished(torch.autograd.Function):
    """max(0, D(normalised(x + offset)) + around), with gradients through the statistics; none of the offset."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        offset: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        around: Tensor | None,
        seed: Tensor | None,
        layer: _BatchNorm,
        how: _How,
        p: float,
        rectify: bool,
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        beside = None if around is None else around.reshape(flat.shape)
        parts = gpu_ops.moments(flat, offset, how.counts, how.groups)
        y, found = gpu_ops.finish(
            flat,
            offset,
            parts,
            weight,
            bias,
            layer.running_mean,
            layer.running_var,
            layer.momentum,
            layer.eps,
            beside,
            seed,
            p,
            rectify,
            how.dtype,
        )
        ctx.save_for_backward(x, offset, weight, bias, None if around is None else y, seed, found)
        ctx.counts, ctx.p, ctx.rectify = how.counts, p, rectify
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        x, offset, weight, bias, y, seed, found = ctx.saved_tensors
        flat = x.reshape(-1, x.shape[-1])
        given = given.reshape(flat.shape)
        common = flat, offset, found, weight, bias
        parts, around = gpu_ops.finish_sums(given, *common, y, seed, ctx.p, ctx.rectify)
        given, rectify = (given, ctx.rectify) if around is None else (around, False)
        dx, own = gpu_ops.finish_slopes(given, *common, parts, ctx.counts, seed, ctx.p, rectify)
        beside = None if around is None else around.view(x.shape)
        return dx.view(x.shape), None, own[1], own[0], beside, *[None] * 5


class _Spatial(torch.autograd.Function):
    """A graph convolution without its biases, the rows themselves, and what the shortcut makes of them.

    The rows are returned so that the gradient of the residual path comes here. The biases are `offset`, which is
    added to what is returned first: its gradient is the sum of that one's.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gather: Tensor, maps: Tensor, offset: Tensor, shortcut: Tensor | None, stride: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        rows, frames, joints, c_in = x.shape
        poses = x.reshape(-1, joints, c_in)
        convolve, *ctx.backwards = gpu_ops.graph_operations(poses, len(maps))
        y = convolve(poses, gather, maps).view(rows, frames, joints, -1)
        beside = None if shortcut is None else F.linear(x[:, ::stride], shortcut)
        ctx.save_for_backward(x, gather, maps, shortcut)
        ctx.stride = stride
        ctx.set_materialize_grads(False)
        return y, x.view_as(x), beside

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, given: Tensor, around: Tensor | None, beside: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, gather, maps, shortcut = ctx.saved_tensors
        poses = x.reshape(-1, *x.shape[2:])
        given = given.reshape(*poses.shape[:2], -1)
        around = None if around is None else around.reshape(poses.shape)
        slopes, weights = ctx.backwards
        dx, of_gather = slopes(given, poses, gather, maps, around)
        both = weights(given, poses, gather, maps).sum(0)
        of_maps, of_offset = both[: maps.numel()].view(maps.shape), both[maps.numel() :].view(poses.shape[1], -1)
        of_shortcut = None
        if shortcut is not None and beside is not None:
            beside = beside.reshape(-1, beside.shape[-1])
            seen = x[:, :: ctx.stride]
            of_shortcut = beside.T @ seen.reshape(-1, x.shape[-1])
            if ctx.stride == 1:
                dx.view(-1, x.shape[-1]).addmm_(beside, shortcut)
            else:
                dx.view(x.shape)[:, :: ctx.stride].add_((beside @ shortcut).view(seen.shape))
        return dx.view(x.shape), of_gather.sum(0), of_maps, of_offset, of_shortcut, None


def _weights(network: Any, low: torch.dtype) -> list[_Ready]:
    """Return the weights of all blocks: laid out by a table, and multiplied by the graph, all at once."""
    table = table_of(network)
    flat = torch.cat([each.reshape(-1) for each in _parameters(network)])
    whole = flat.index_select(0, table.places) * table.factors
    narrow, biases = whole.split([table.narrow, len(whole) - table.narrow])
    joints, subsets = network.joints, network.adjacency.shape[0]
    gather = narrow[: table.gathered].view(-1, joints, subsets, joints)
    sums = gather.sum(3).transpose(0, 1).index_select(1, table.owner)  # [V, sum of C_out, K]
    # In the type of activations, as autocast has biases: so are their gradients.
    offsets = (sums * biases.view(-1, subsets)).sum(2).to(low).split(table.widths, 1)  # [V, C_out] each
    pieces = iter(narrow.to(low).split(table.sizes))
    gathers = next(pieces).view(-1, joints * subsets, joints).unbind()
    found = []
    for block, of_gather, offset in zip(network.blocks, gathers, offsets, strict=True):
        width, c_in = block.temporal.out_channels, block.spatial.maps.in_features
        maps = next(pieces).view(width, subsets * c_in)
        temporal = next(pieces).view(width, *block.temporal.kernel_size, width).permute(0, 3, 1, 2)
        shortcut = None if block.shortcut is None else next(pieces).view(width, c_in)
        found.append(_Ready(of_gather, maps, offset, temporal, shortcut))
    return found


class _Table(NamedTuple):
    """Where each number of the weights in use lies among all parameters, and by what it is multiplied."""

    places: Tensor
    factors: Tensor
    owner: Tensor  # the block of each output channel
    narrow: int  # numbers in the type of activations, which come first
    gathered: int  # of these, those of the graphs, which come first
    sizes: list[int]
    widths: list[int]


def table_of(network: Any) -> _Table:
    """Return a network's table, made at its first use on a device."""
    device, known = network.adjacency.device, network.__dict__.get("_gpu_table")
    if known is None or known.places.device != device or known.factors.dtype != network.adjacency.dtype:
        known = network.__dict__["_gpu_table"] = _make_table(network, device)
    return cast(_Table, known)


def _parameters(network: Any) -> Iterator[Tensor]:
    """Yield everything that blocks learn but their normalisation."""
    for block in list(network.blocks):
        layers = (block.spatial.maps, block.temporal, block.shortcut)
        yield block.spatial.importance
        yield from (each for layer in layers if layer is not None for each in (layer.weight, layer.bias))


def _make_table(network: Any, device: torch.device) -> _Table:
    counts = [each.numel() for each in _parameters(network)]
    starts = iter(pairwise(accumulate(counts, initial=0)))
    shapes = iter([each.shape for each in _parameters(network)])

    def numbers() -> Tensor:
        """The places of the next parameter, in its shape."""
        return torch.arange(*next(starts), dtype=torch.int32).view(next(shapes))

    graph = network.adjacency.detach()
    subsets = len(graph)
    gathers, weights, biases, widths = [], [], [], []
    for block in network.blocks:
        width = block.temporal.out_channels
        gathers.append(numbers().permute(2, 0, 1))
        weights.append(numbers().view(subsets, width, -1).transpose(0, 1))
        biases.append(numbers().view(subsets, width).T)
        weights.append(numbers().permute(0, 2, 3, 1))
        numbers()
        if block.shortcut is not None:
            weights.append(numbers())
            numbers()
        widths.append(width)
    places = [torch.cat([each.reshape(-1) for each in found]) for found in (gathers, weights, biases)]
    gathered, narrow = len(places[0]), len(places[0]) + len(places[1])
    table = torch.cat(places)
    owner = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
    factors = graph.new_ones(len(table))
    factors[:gathered] = graph.permute(2, 0, 1).reshape(-1).repeat(len(widths))
    sizes = [gathered, *(each.numel() for each in weights)]
    return _Table(sent(table, device), factors, sent(owner, device), narrow, gathered, sizes, widths)
