"""A network as a file that other programs run: ONNX, or torch.export; each is checked before it gets its name."""

import inspect
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import replacing
from skelpipe.train.evaluation.deployed_network import FEWEST, DeployedNetwork

__all__ = ["FORMATS", "METADATA", "TOLERANCE", "Check", "export_network"]

TOLERANCE = 1e-5  # of the largest number that the network returns, or of 1 where all are smaller
METADATA = "skelpipe.json"  # the extra file of torch.export
FORMATS = {"onnx": ".onnx", "torch-export": ".pt2"}
INPUT = "clips"
LARGEST = 2 << 30  # bytes of a protobuf message

# Maps clips float32 [n,C,T,V,M] to the outputs of a file.
Runs = Callable[[np.ndarray], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Check:
    """How the file's results compare with the network's: `difference` is the largest, of numbers up to `largest`.

    `about` is what the file says of itself. `by` is the program that ran the file, empty where it is not
    installed: nothing was checked then.
    """

    about: Mapping[str, Any]
    by: str
    clips: int
    difference: float = 0.0
    largest: float = 0.0


def export_network(network: DeployedNetwork, to: str, path: Path, clips: Tensor) -> Check:
    """Write a network to `path` in a format of `FORMATS`, and compare it with the network on joint clips.

    The graph takes any number of clips, and of frames where the network allows that. Raises UsageError where a
    package is missing, and SkelpipeError where results differ by more than `TOLERANCE`; there is no file then.
    """
    if to not in FORMATS:
        raise UsageError(f"--to {to}: known: {', '.join(FORMATS)}")
    if to == "onnx":
        _require_onnx()
    with _quietly():
        program, network = _graph(network)
        content = _onnx(program, network) if to == "onnx" else _torch_export(program, network)
        by, runs = _onnx_runner(content, network) if to == "onnx" else _torch_runner(content)
        check = Check(network.about(), "", 0) if runs is None else _compared(network, by, runs, clips)
    if not check.difference <= TOLERANCE * max(1.0, check.largest):
        raise SkelpipeError(
            f"{path}: not written: run by {check.by}, the graph differs from the network by {check.difference:.3g}"
            f" in numbers up to {check.largest:.3g}"
        )
    with replacing(path, durable=True, needs=len(content)) as file:
        file.write(content)
    return check


def _graph(network: DeployedNetwork) -> tuple[torch.export.ExportedProgram, DeployedNetwork]:
    """Trace the network; the numbers of clips and, where that is possible, of frames stay symbols.

    The network is returned as the graph is: with a fixed number of frames if its code fixes it.
    """
    example = (torch.zeros(2, *network.shape),)
    clips = torch.export.Dim("clips", min=1)
    deferred = "prefer_deferred_runtime_asserts_over_guards"
    # Before torch 2.7 a number of frames that strides divide could not be left open.
    if network.free_frames and deferred in inspect.signature(torch.export.export).parameters:
        sizes = {0: clips, 2: torch.export.Dim("frames", min=FEWEST)}
        more: dict[str, Any] = {deferred: True}
        try:
            program = torch.export.export(network.module, example, dynamic_shapes=(sizes,), strict=False, **more)
            return program, network
        except torch._dynamo.exc.UserError:  # a backbone of a plug-in that computes with the number of frames
            pass
    fixed = torch.export.export(network.module, example, dynamic_shapes=({0: clips},), strict=False)
    return fixed, replace(network, free_frames=False)


def _torch_export(program: torch.export.ExportedProgram, network: DeployedNetwork) -> bytes:
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={METADATA: json.dumps(network.about())})
    return content.getvalue()


def _onnx(program: torch.export.ExportedProgram, network: DeployedNetwork) -> bytes:
    made = torch.onnx.export(
        program, dynamo=True, input_names=[INPUT], output_names=list(network.outputs), verbose=False
    )
    assert made is not None
    made.model.metadata_props.update(network.metadata())
    made.model.graph.name = "skelpipe"
    message = made.model_proto
    if message.ByteSize() > LARGEST:
        raise SkelpipeError(f"the network has {message.ByteSize()} bytes: more than an ONNX file may hold")
    return bytes(message.SerializeToString(deterministic=True))


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--to onnx needs {error.name}: pip install 'skelpipe[onnx]'; --to torch-export needs nothing"
        ) from None


def _onnx_runner(content: bytes, network: DeployedNetwork) -> tuple[str, Runs | None]:
    try:
        import onnxruntime
    except ImportError:
        return "", None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = list(network.outputs)
    return f"onnxruntime {onnxruntime.__version__}", lambda clips: session.run(names, {INPUT: clips})


def _torch_runner(content: bytes) -> tuple[str, Runs | None]:
    module = torch.export.load(io.BytesIO(content)).module()

    def run(clips: np.ndarray) -> Sequence[np.ndarray]:
        found = module(torch.from_numpy(clips))
        return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]

    return f"torch {torch.__version__}", run


@torch.no_grad()
def _compared(network: DeployedNetwork, by: str, runs: Runs, clips: Tensor) -> Check:
    """Compare file and network on all clips at once, on the first alone, and with fewer frames if that is free."""
    frames = clips.shape[2]
    batches = [clips, clips[:1]]
    if network.free_frames:
        batches.append(clips[:3, :, : max(FEWEST, frames - 3)].contiguous())
    difference = largest = 0.0
    for batch in batches:
        expected = network.module(batch)
        for want, got in zip(
            expected if isinstance(expected, tuple) else (expected,), runs(batch.numpy()), strict=True
        ):
            difference = max(difference, float(np.abs(want.numpy() - got).max()))
            largest = max(largest, float(want.abs().max()))
    return Check(network.about(), by, len(clips), difference, largest)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep to itself what torch and its exporter say of their own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
