"""What a block of ST-GCN does between convolutions over time, as operations of which each is one kernel on a GPU.

`moments` and `finish` are the forward pass, `finish_sums` and `finish_slopes` the backward pass of

    y = max(0, D(normalised(x + offset)) + around)

on rows x [P, C]; D is dropout, and rectifier, dropout and `around` may be left out. The rows are those of `groups`
batches one after the other, each normalised by statistics of its own; running statistics move batch by batch.
`offset` [J, C] is added to J rows in turn, so that the bias of a convolution needs no pass of its own. Each P /
len(counts) rows stand for as many as `counts` says (see `Repeats`). Statistics and sums are in float32 at least.

`graph` is a graph convolution without its biases, out[w] = sum_k maps_k sum_v gather[w, k, v] x[v], on poses x
[P, V, C_in]. `graph_slopes` and `graph_weights` are its backward pass; gathered poses are never in memory. Sums
over poses come in parts, which are to be added up.

On a GPU they are the kernels of `gpu_kernels`. Here they are operations of torch: what the kernels are compared
with, and what runs on a CPU, where nothing but tests uses it.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "NAMES",
    "Poses",
    "differences",
    "finish",
    "finish_slopes",
    "finish_sums",
    "graph",
    "graph_operations",
    "graph_slopes",
    "graph_weights",
    "kept",
    "moments",
    "pieces",
    "put",
]

PROGRAMS: Final = 264  # of a kernel that sums: two for each multiprocessor of an H100 or H200
COLUMNS: Final = 64  # of a program
TILE: Final = 8192  # bytes of poses of a program
LARGEST: Final = {2: 8192, 4: 2048, 8: 2048}  # numbers of a pose, by their bytes; more do not stay in registers

_library = torch.library.Library("skelpipe", "DEF")
_library.define("moments(Tensor x, Tensor? offset, Tensor? counts, int groups) -> Tensor")
_library.define(
    "finish(Tensor x, Tensor? offset, Tensor parts, Tensor weight, Tensor bias, Tensor(a!) running_mean, "
    "Tensor(b!) running_var, float momentum, float eps, Tensor? around, Tensor? seed, float p, bool rectify, "
    "ScalarType dtype) -> (Tensor, Tensor)"
)
_library.define(
    "finish_sums(Tensor given, Tensor x, Tensor? offset, Tensor found, Tensor weight, Tensor bias, Tensor? y, "
    "Tensor? seed, float p, bool rectify) -> (Tensor, Tensor?)"
)
_library.define(
    "finish_slopes(Tensor given, Tensor x, Tensor? offset, Tensor found, Tensor weight, Tensor bias, "
    "Tensor parts, Tensor? counts, Tensor? seed, float p, bool rectify) -> (Tensor, Tensor)"
)

_library.define("graph(Tensor x, Tensor gather, Tensor maps) -> Tensor")
_library.define(
    "graph_slopes(Tensor given, Tensor x, Tensor gather, Tensor maps, Tensor? around) -> (Tensor, Tensor)"
)
_library.define("graph_weights(Tensor given, Tensor x, Tensor gather, Tensor maps) -> Tensor")

moments = torch.ops.skelpipe.moments
finish = torch.ops.skelpipe.finish
finish_sums = torch.ops.skelpipe.finish_sums
finish_slopes = torch.ops.skelpipe.finish_slopes
graph = torch.ops.skelpipe.graph
graph_slopes = torch.ops.skelpipe.graph_slopes
graph_weights = torch.ops.skelpipe.graph_weights


def pieces(rows: int, columns: int) -> int:
    """Return into how many parts the rows of a batch are divided, of which each is summed by itself."""
    across = -(-columns // COLUMNS)
    return max(1, min(PROGRAMS // across, -(-rows // 128)))


def kept(seed: Tensor, rows: int, columns: int, p: float) -> Tensor:
    """Return which elements dropout keeps, bool [rows, columns]: by a hash of seed, int64 [1], and place."""
    at = torch.arange(rows * columns, device=seed.device).view(rows, columns)
    low, high = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    return _mixed(_mixed((at + low) & 0xFFFFFFFF) ^ high) >= int(p * 2**32)


def _mixed(x: Tensor) -> Tensor:
    """Return 32 bits of which each depends on all of x (Wellons, "hash-prospector", 2018: lowbias32)."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _values(x: Tensor, offset: Tensor | None) -> Tensor:
    if offset is None:
        return _wide(x)
    return (_wide(x).view(-1, *offset.shape) + _wide(offset)).view(x.shape)


def _each(x: Tensor, counts: Tensor | None) -> Tensor:
    """Return for how many each row of x stands, [P, 1]."""
    if counts is None:
        return _wide(x.new_ones(len(x), 1))
    return counts.to(_wide(x).dtype).repeat_interleave(len(x) // len(counts))[:, None]


def _moments(x: Tensor, offset: Tensor | None, counts: Tensor | None, groups: int) -> Tensor:
    """Return number, mean and sum of squares about it per part and channel, [groups, parts, 3, C]."""
    number = _each(x, counts).view(groups, -1, 1)
    values = _values(x, offset).view(groups, -1, x.shape[1])
    count = number.sum(1, keepdim=True)
    mean = (values * number).sum(1, keepdim=True) / count.clamp(min=1)
    squares = ((values - mean).square() * number).sum(1, keepdim=True)
    return torch.stack([count.expand_as(mean), mean, squares], 2)


def _finish(
    x: Tensor,
    offset: Tensor | None,
    parts: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    around: Tensor | None,
    seed: Tensor | None,
    p: float,
    rectify: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return y [P, C] and mean, 1 / deviation and number of each batch, [groups, 3, C]."""
    number, mean, squares = (parts[:, :, i] for i in range(3))
    count = number.sum(1).clamp(min=1)
    whole = (number * mean).sum(1) / count
    squares = (squares + number * (mean - whole[:, None]).square()).sum(1)
    found = torch.stack([whole, (squares / count + eps).rsqrt(), count], 1)
    for group in range(len(parts)):
        running_mean.lerp_(whole[group].to(running_mean.dtype), momentum)
        unbiased = squares[group] / (count[group] - 1).clamp(min=1)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    y = torch.addcmul(_wide(bias), _unit(x, offset, found), _wide(weight))
    if seed is not None:
        y = y * kept(seed, len(x), x.shape[1], p) / (1 - p)
    if around is not None:
        y = y + around
    return (y.relu() if rectify else y).to(dtype), found


def _unit(x: Tensor, offset: Tensor | None, found: Tensor) -> Tensor:
    values = _values(x, offset).view(len(found), -1, x.shape[1])
    return ((values - found[:, :1]) * found[:, 1:2]).view(x.shape)


def _sums(
    given: Tensor,
    x: Tensor,
    offset: Tensor | None,
    found: Tensor,
    weight: Tensor,
    bias: Tensor,
    y: Tensor | None,
    seed: Tensor | None,
    p: float,
    rectify: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return the sums of g and of g times the normalised x per part, [groups, parts, 2, C], and `around`'s slope.

    y says where the rectifier was open, where something was added before it; without, x says so again.
    """
    unit = _unit(x, offset, found)
    slope = _opened(given, unit, weight, bias, y) if rectify else _wide(given)
    around = None if y is None else slope.to(x.dtype)
    slope = slope if around is None else _wide(around)
    slope = slope if seed is None else slope * kept(seed, len(x), x.shape[1], p) / (1 - p)
    each = (part.view(len(found), -1, x.shape[1]).sum(1) for part in (slope, slope * unit))
    return torch.stack(list(each), 1)[:, None], around


def _opened(given: Tensor, unit: Tensor, weight: Tensor, bias: Tensor, y: Tensor | None) -> Tensor:
    before = torch.addcmul(_wide(bias), unit, _wide(weight)) if y is None else y
    return _wide(given) * (before > 0)


def _slopes(
    given: Tensor,
    x: Tensor,
    offset: Tensor | None,
    found: Tensor,
    weight: Tensor,
    bias: Tensor,
    parts: Tensor,
    counts: Tensor | None,
    seed: Tensor | None,
    p: float,
    rectify: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradient of x [P, C], and those of bias and weight, [2, C].

    `given` is the gradient of y or, where something was added to the normalised rows, that of `around`.
    """
    unit = _unit(x, offset, found)
    slope = _opened(given, unit, weight, bias, None) if rectify else _wide(given)
    slope = slope if seed is None else slope * kept(seed, len(x), x.shape[1], p) / (1 - p)
    sums = parts.sum(1)
    means = (sums / found[:, 2:]).repeat_interleave(len(x) // len(found), 0)
    shared = (means[:, 0] + unit * means[:, 1]) * _each(x, counts)
    scale = (found[:, 1] * _wide(weight)).repeat_interleave(len(x) // len(found), 0)
    return ((slope - shared) * scale).to(x.dtype), sums.sum(0)


def _near(x: Tensor, gather: Tensor) -> Tensor:
    """Return the neighbourhoods of every joint, [P * V, K * C_in]."""
    near = torch.bmm(gather.expand(len(x), -1, -1), x)
    return near.view(len(x) * x.shape[1], -1)


def _graph(x: Tensor, gather: Tensor, maps: Tensor) -> Tensor:
    """Return the poses convolved, [P, V, C_out], with `gather` [V * K, V] and `maps` [C_out, K * C_in]."""
    return (_near(x, gather) @ maps.T).view(*x.shape[:2], -1)


def _graph_slopes(
    given: Tensor, x: Tensor, gather: Tensor, maps: Tensor, around: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradient of x plus `around`, and that of `gather` in parts, [parts, V * K, V]."""
    steep = (given.reshape(-1, given.shape[2]) @ maps).view(len(x), -1, x.shape[2])
    back = gather.T.expand(len(x), -1, -1)
    dx = torch.bmm(back, steep) if around is None else torch.baddbmm(around, back, steep)
    return dx, torch.bmm(steep, x.transpose(1, 2)).sum(0, keepdim=True)


def _graph_weights(given: Tensor, x: Tensor, gather: Tensor, maps: Tensor) -> Tensor:
    """Return the gradient of `maps` and behind it the sums of `given`, [parts, C_out * K * C_in + V * C_out]."""
    slope = given.reshape(-1, given.shape[2]).T @ _near(x, gather)
    return torch.cat([slope.flatten(), given.sum(0).flatten()])[None]


class Poses(NamedTuple):
    """How poses are divided: `joints`, `poses` and channels of a tile, padded to powers of two, the
    number of tiles, and bytes per number."""

    joints: int
    poses: int
    c_in: int
    c_out: int
    tiles: int
    size: int

    @classmethod
    def of(cls, x: Tensor, c_out: int) -> "Poses":
        """Return them for poses x [P, V, C_in]."""
        joints, c_in, c_out = (max(16, 1 << (size - 1).bit_length()) for size in (*x.shape[1:], c_out))
        poses = min(8, max(1, TILE // x.element_size() // (joints * c_in)))
        return cls(joints, poses, c_in, min(c_out, 64), -(-len(x) // poses), x.element_size())

    @property
    def fits(self) -> bool:
        """Whether a program can hold a tile."""
        return self.joints * self.c_in <= LARGEST[self.size]

    def parts(self, others: int) -> int:
        """Return by how many programs the tiles are worked through, where `others` take the same."""
        return max(1, min(self.tiles, 2 * PROGRAMS // others))


def _shape_of_graph(x: Tensor, gather: Tensor, maps: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:2], len(maps))


def _shape_of_graph_slopes(
    given: Tensor, x: Tensor, gather: Tensor, maps: Tensor, around: Tensor | None
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), gather.new_empty(Poses.of(x, len(maps)).parts(1), *gather.shape)


def _shape_of_graph_weights(given: Tensor, x: Tensor, gather: Tensor, maps: Tensor) -> Tensor:
    how = Poses.of(x, len(maps))
    parts = how.parts(-(-len(maps) // how.c_out) * len(gather) // x.shape[1])
    return maps.new_empty(parts, maps.numel() + x.shape[1] * len(maps))


def _shape_of_moments(x: Tensor, offset: Tensor | None, counts: Tensor | None, groups: int) -> Tensor:
    return x.new_empty(groups, pieces(len(x) // groups, x.shape[1]), 3, x.shape[1], dtype=_wide_type(x))


def _shape_of_finish(x: Tensor, offset: Tensor | None, parts: Tensor, *given: object) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=given[-1]), parts.new_empty(len(parts), 3, x.shape[1])  # type: ignore[call-overload]


def _shape_of_sums(
    given: Tensor,
    x: Tensor,
    offset: Tensor | None,
    found: Tensor,
    weight: Tensor,
    bias: Tensor,
    y: Tensor | None,
    *others: object,
) -> tuple[Tensor, Tensor | None]:
    parts = pieces(len(x) // len(found), x.shape[1])
    return found.new_empty(len(found), parts, 2, x.shape[1]), None if y is None else torch.empty_like(x)


def _shape_of_slopes(
    given: Tensor, x: Tensor, offset: Tensor | None, found: Tensor, *others: object
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), found.new_empty(2, x.shape[1])


def _wide_type(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


_BY_TORCH: Final[dict[str, Callable[..., Any]]] = {
    "moments": _moments,
    "finish": _finish,
    "finish_sums": _sums,
    "finish_slopes": _slopes,
    "graph": _graph,
    "graph_slopes": _graph_slopes,
    "graph_weights": _graph_weights,
}
_SHAPES: Final[dict[str, Callable[..., Any]]] = {
    "moments": _shape_of_moments,
    "finish": _shape_of_finish,
    "finish_sums": _shape_of_sums,
    "finish_slopes": _shape_of_slopes,
    "graph": _shape_of_graph,
    "graph_slopes": _shape_of_graph_slopes,
    "graph_weights": _shape_of_graph_weights,
}
NAMES: Final = tuple(_BY_TORCH)


def put(name: str, operation: Callable[..., Any], device: str) -> None:
    """Let a function do an operation on a kind of device."""
    _library.impl(name, operation, device)


for _name, _by_torch in _BY_TORCH.items():
    put(_name, _by_torch, "CPU")
    put(_name, _SHAPES[_name], "Meta")


def differences(device: torch.device) -> Iterator[str]:
    """Yield which results of operations on a device are not those on a CPU, for small examples."""
    for dtype, room in ((torch.float32, 1e-3), (torch.bfloat16, 5e-2)):
        found = [_example(each, dtype) for each in (torch.device("cpu"), device)]
        for name, wanted in found[0].items():
            apart, size = (found[1][name].cpu().float() - wanted).abs().max(), wanted.abs().max()
            if not apart <= room * size:
                yield f"the kernel for {name} in {dtype} is off by {float(apart / size):.2g}"


def graph_operations(x: Tensor, c_out: int) -> tuple[Callable[..., Any], ...]:
    """Return `graph`, `graph_slopes` and `graph_weights` for poses x [P, V, C_in]: kernels where they fit."""
    if Poses.of(x, c_out).fits:
        return graph, graph_slopes, graph_weights
    return _graph, _graph_slopes, _graph_weights


def _example(device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws).to(device)

    x, given, around = (drawn(600, 20).to(dtype) for _ in range(3))
    offset, weight, bias, mean, variance = drawn(5, 20), drawn(20), drawn(20), drawn(20), drawn(20).square()
    seed, counts = torch.tensor([2**61 + 12345], device=device), drawn(120).abs()
    found: dict[str, Any] = {"mean": mean, "variance": variance}
    for name, p, beside in (("rectified", 0.0, None), ("finished", 0.25, around)):
        drop = (seed, p) if p else (None, p)
        parts = moments(x, offset, counts, 2)
        y, stats = finish(x, offset, parts, weight, bias, mean, variance, 0.1, 1e-5, beside, *drop, True, dtype)
        common = x, offset, stats, weight, bias
        sums, back = finish_sums(given, *common, None if beside is None else y, *drop, True)
        steep = (given, True) if back is None else (back, False)
        dx, own = finish_slopes(steep[0], *common, sums, counts, *drop, steep[1])
        found |= {f"{name} y": y, f"{name} statistics": stats, f"{name} dx": dx, f"{name} weights": own}
        found |= {} if back is None else {f"{name} around": back}
    poses, edges, maps, slope = (
        drawn(*shape).to(dtype) for shape in ((24, 25, 20), (75, 25), (40, 60), (24, 25, 40))
    )
    dx, of_edges = graph_slopes(slope, poses, edges, maps, poses)
    of_maps, of_biases = graph_weights(slope, poses, edges, maps).float().sum(0).split([40 * 60, 25 * 40])
    found |= {"graph y": graph(poses, edges, maps), "graph dx": dx, "graph edges": of_edges.float().sum(0)}
    return found | {"graph maps": of_maps, "graph biases": of_biases}
