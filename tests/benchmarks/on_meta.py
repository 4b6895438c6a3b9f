"""Training steps on torch's meta device: shapes and operations are those on a GPU, and nothing is computed.

`MetaRun` is a run of a recipe there, `Watch` an error for everything that a GPU would have to wait for.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, ClassVar, TypeAlias
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from skelpipe.dataset import Dataset
from skelpipe.devices import Fetched
from skelpipe.loader import Batch, Loader, Stream
from skelpipe.models import build_method, gpu_block
from skelpipe.models.absent_bodies import teller
from skelpipe.models.method import Method, Progress, spread
from skelpipe.models.stgcn import STGCN
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running import optimisers
from skelpipe.train.running.loop import Stepper, build_optimiser
from skelpipe.train.running.tally import Tally

__all__ = ["META", "Dropped", "MetaRun", "WaitsError", "Watch", "Within", "as_on_a_gpu", "copied"]

Within: TypeAlias = Callable[[str], AbstractContextManager[Any]]

META = torch.device("meta")
aten = torch.ops.aten

# What hands values to the host, or makes a tensor whose size depends on values: the host waits for the device.
WAITING = {
    aten._local_scalar_dense,
    aten.item,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.nonzero_numpy,
    aten.argwhere,
    aten.masked_select,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.unique_dim_consecutive,
    aten._unique,
    aten._unique2,
    aten.bincount,
    aten.histc,
}
WHOLE = (torch.bool, torch.uint8)  # an index of these types is a mask, whose ones are counted


_MADE: dict[Any, Any] = {}  # what `made_on_meta` returned for such arguments


def made_on_meta(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return func(*args, **kwargs). What it makes of tensors of the same kind is remembered.

    torch works out in Python which shapes most operations make, which takes longer than all else here; a network
    asks the same of it again and again.
    """
    schema = func._schema
    written = [each.alias_info is not None for each in (*schema.arguments, *schema.returns)]
    in_place = len(schema.returns) == 1 and [i for i, each in enumerate(written) if each] == [0, len(written) - 1]
    if not all(each.device == META for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)):
        return func(*args, **kwargs)  # to be computed
    if (any(written) and not in_place) or (in_place and not schema.returns[0].alias_info.is_write):
        return func(*args, **kwargs)
    key = (func, _kinds(args), _kinds(tuple(kwargs.items())))
    made = _MADE.get(key)
    if made is None:
        result = func(*args, **kwargs)
        if func is aten.convolution.default and any(map(_is_channels_last, args[:2])):
            result = result.contiguous(memory_format=torch.channels_last)  # as cuDNN returns it
        several = isinstance(result, tuple)
        results = result if several else (result,)
        if in_place or all(isinstance(each, Tensor) and each.device == META for each in results):
            _MADE[key] = in_place or (several, [(each.shape, each.stride(), each.dtype) for each in results])
        return result
    if in_place:
        return args[0]
    several, kinds = made
    results = tuple(torch.empty_strided(*kind[:2], dtype=kind[2], device=META) for kind in kinds)
    return results if several else results[0]


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _kinds(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, list | tuple):
        return tuple(map(_kinds, value))
    return value, type(value)


class WaitsError(AssertionError):
    """An operation that makes the host wait for the device, or that is computed on the host."""


class Watch(TorchDispatchMode):
    """Raises `WaitsError` at an operation that reads values of the device, or has tensors elsewhere.

    With `beside` the host may compute too, with its own tensors alone; only `copied` brings them to the device.
    """

    def __init__(self, *, beside: bool = False) -> None:
        super().__init__()
        self.beside = beside

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if self.beside and is_of_host(func, args, kwargs):
            return func(*args, **kwargs)
        if packet in WAITING or (packet in (aten.index, aten.index_put, aten.index_put_) and _is_masked(args[1])):
            raise WaitsError(f"{func} reads values of the device")
        if packet is aten.repeat_interleave and kwargs.get("output_size") is None:
            raise WaitsError(f"{func} without output_size reads values of the device")
        try:
            result = made_on_meta(func, args, kwargs)
        except NotImplementedError as error:  # there are no values here
            raise WaitsError(f"{func}: {error}") from None
        for each in tree_leaves((args, kwargs, result)):
            # A tensor of one number on the host is given to a kernel as a number is.
            if isinstance(each, Tensor) and each.device != META and each.dim():
                raise WaitsError(f"{func} has a tensor of shape {list(each.shape)} on {each.device}")
        return result


# torch would import its compiler at the first operation, and keep it out at each: none is at work here.
Watch.__torch_dispatch__ = inspect.unwrap(Watch.__torch_dispatch__)  # type: ignore[method-assign]


def copied(x: Tensor, device: torch.device) -> Tensor:
    """Stand for `skelpipe.devices.sent`, the one way to the device."""
    with _disable_current_modes():
        return x.to(device)


class Dropped(Fetched):
    """Stands for `skelpipe.devices.Fetched`, the one way back: there is nothing to copy."""

    def add(self, x: Tensor) -> None:
        assert x.device == META
        self._parts.append(torch.zeros(x.shape, dtype=x.dtype))


def is_of_host(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor | torch.device)]
    devices = {each.device if isinstance(each, Tensor) else each for each in given}
    return devices <= {torch.device("cpu")}


def _is_masked(indices: Sequence[Tensor | None]) -> bool:
    return any(each is not None and each.dtype in WHOLE for each in indices)


class Autocast(TorchFunctionMode):
    """Autocast to bfloat16 as CUDA has it, by the lists of its documentation; torch knows none on the meta device.

    Weights are cast once within the outermost context, as there.
    """

    LOW: ClassVar = {
        torch.conv1d,
        torch.conv2d,
        torch.bmm,
        torch.mm,
        torch.addmm,
        torch.baddbmm,
        torch.matmul,
        torch.einsum,
        Tensor.matmul,
        Tensor.__matmul__,
        Tensor.__rmatmul__,
        F.linear,
    }
    HIGH: ClassVar = {F.layer_norm, F.softmax, F.log_softmax, Tensor.softmax, Tensor.log_softmax, F.cross_entropy}

    def __init__(self, wanted: bool) -> None:
        super().__init__()
        self._wanted, self.on = wanted, False
        self._cast: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.on and func in self.LOW:
            args, kwargs = tree_map(self._low, (args, kwargs))
        elif self.on and func in self.HIGH:
            args, kwargs = tree_map(_high, (args, kwargs))
        return func(*args, **(kwargs or {}))

    def is_on(self, device_type: str) -> bool:
        """Stand for `torch.is_autocast_enabled`."""
        return self.on

    @contextmanager
    def switched(self, device_type: str, dtype: Any = None, enabled: bool = True) -> Iterator[None]:
        """Stand for `torch.autocast`."""
        before, self.on = self.on, self._wanted and enabled
        try:
            yield
        finally:
            self.on = before

    def _low(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or x.dtype != torch.float32:
            return x
        if not (x.requires_grad and x.is_leaf):
            return x.to(torch.bfloat16)
        if id(x) not in self._cast:
            self._cast[id(x)] = x.to(torch.bfloat16)
        return self._cast[id(x)]


def _high(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.dtype == torch.bfloat16 else x


@contextmanager
def as_on_a_gpu(*, amp: bool = False) -> Iterator[None]:
    """Let operations with several forms take the one that they have on a GPU, with `amp` under autocast."""

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return torch.native_dropout(x, p, True)[0] if training and 0 < p < 1 else x

    def fused(*given: Any, **named: Any) -> None:
        """Stand for a kernel that steps many parameters in place."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        low = (x.to(torch.bfloat16) if amp else x for x in (q, k, v))
        found: Tensor = aten._scaled_dot_product_efficient_attention(*low, None, True)[0]
        return found

    cast = Autocast(amp)
    module = import_module("torch.optim.optimizer")
    with (
        mock.patch.object(torch, "autocast", cast.switched),
        mock.patch.object(F, "dropout", dropout),
        mock.patch.object(F, "scaled_dot_product_attention", attention),
        mock.patch.object(torch, "is_autocast_enabled", cast.is_on),
        mock.patch.object(torch, "get_autocast_dtype", return_value=torch.bfloat16),
        mock.patch.object(optimisers, "FUSED_ON", ("meta",)),
        mock.patch.object(gpu_block, "ON", ("meta",)),
        mock.patch.object(module, "_get_fused_kernels_supported_devices", return_value=["meta"]),
        torch.library._scoped_library("aten", "IMPL", "Meta") as library,
    ):
        for name in ("_fused_sgd_", "_fused_adam_", "_fused_adamw_"):
            library.impl(name, fused)
        with cast if amp else nullcontext():
            yield


class MetaRun:
    """A run of a recipe on clips of `dataset`: method, loader and optimiser as training has them.

    `share` is how much of the run is done, which decides about the stage.
    """

    def __init__(self, recipe: PretrainRecipe, dataset: Dataset, share: float, batch_size: int) -> None:
        shape, layout = dataset.shape, dataset.layout
        with META:
            self.method: Method = build_method(recipe, layout, "joint", lambda: torch.zeros(shape))
        self.method.train()
        self.start = Progress(round(share * recipe.epochs), recipe.epochs, 0, 1)
        self.optimiser = build_optimiser(self.method, recipe.optimiser)
        for learned in self.method.parameters():
            learned.grad = torch.zeros_like(learned) if learned.requires_grad else None
        for module in self.method.modules():
            if isinstance(module, STGCN):
                gpu_block.table_of(module)  # made at the first step
        self.optimiser.step()  # the first step also makes what is kept for the next
        self.dataset, self.batch_size = dataset, batch_size
        self.tally = Tally()

    def step(self, within: Within) -> None:
        """Take a step as `train_epoch` does, each part of it `within` the context of its name.

        The parts are "views", "forward", "backward", "optimiser" and "logs"; "forward" has what follows the
        optimiser's step, too.
        """
        method = self.method
        with within("forward"):
            method.advance(self.start)
        self._batch(lambda part: nullcontext())  # tables that are made on the host once, at their first use
        batch = self._batch(within)
        stepper = Stepper(method, self.optimiser, self.start, 1, 1)
        optimise = _in(within, "optimiser", self.optimiser.step)
        with within("forward"):
            stepper.begin(0)
            with torch.autocast(META.type):
                step = method(batch)
        with within("backward"), mock.patch.object(self.optimiser, "step", optimise):
            stepper.learn(0, step.loss)
            stepper.go_on(0)
        with within("logs"):
            self.tally.add(step.logs if "std" in step.logs else {**step.logs, "std": spread(step.embeddings)})

    def _batch(self, within: Within) -> Batch:
        stream = Stream(self.dataset, "train", ["joint"], self.batch_size, seed=0)
        tell = teller(self.method)
        loader = Loader(stream, META, self.method.views(), derive="after", view="joint", tell=tell)
        loader._made = _in(within, "views", loader._made)  # type: ignore[method-assign]
        try:
            return next(iter(loader))
        finally:
            loader.close()


def _in(within: Within, part: str, work: Callable[..., Any]) -> Any:
    def done(*given: Any) -> Any:
        with within(part):
            return work(*given)

    return done
