"""Encoder weights in safetensors files with metadata; reading runs no code and refuses what does not fit."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError
from skelpipe.files import replacing
from skelpipe.models.statefile import is_pickled
from skelpipe.untrusted import shown

__all__ = ["dtype_and_shape", "export_encoder", "load_encoder", "load_state", "misfits"]


def dtype_and_shape(tensor: Tensor) -> str:
    """Return type and shape as messages write them, such as `float32[48, 3]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def export_encoder(path: str | Path, encoder: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write an encoder's state and metadata; the file gets its name only when it is complete."""
    path = Path(path)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    content = _sorted_header(save(state, metadata=dict(metadata)))
    with replacing(path, durable=True, needs=len(content)) as file:
        file.write(content)


def load_encoder(path: str | Path, encoder: nn.Module) -> dict[str, str]:
    """Load a file of `export_encoder` into an encoder and return the file's metadata.

    Raises SkelpipeError, naming the file, where it is damaged or not a safetensors file, and where names, shapes,
    types or constants (such as the graph) differ; the encoder is then unchanged.
    """
    state, metadata = _read(Path(path))
    load_state(path, encoder, state)
    return metadata


def load_state(path: str | Path, encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state that was read from `path` into an encoder; raises as `load_encoder` does."""
    differences = misfits(state, encoder)
    if differences:
        raise SkelpipeError(f"{path}: the weights do not fit this encoder: {'; '.join(differences)}")
    encoder.load_state_dict(state)


def _sorted_header(content: bytes) -> bytes:
    """Sort the metadata, which safetensors writes in random order, so that equal encoders give equal bytes."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        if is_pickled(path):
            raise SkelpipeError(
                f"{path}: this is a pickled PyTorch file, which could run code when loaded; "
                "give an encoder exported as .safetensors"
            )
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot read the encoder: {error.strerror or error}") from error
    except SafetensorError as error:
        raise SkelpipeError(f"{path}: no safetensors file, or a damaged one: {shown(error)}") from error


def misfits(state: Mapping[str, Tensor], encoder: nn.Module) -> list[str]:
    """Return what keeps a state from being loaded, in words: names, types, shapes and constants that differ."""
    expected = encoder.state_dict()
    both = sorted(state.keys() & expected.keys())
    mismatched = [
        f"{name} is {dtype_and_shape(state[name])}, not {dtype_and_shape(expected[name])}"
        for name in both
        if dtype_and_shape(state[name]) != dtype_and_shape(expected[name])
    ]
    constants = [
        name
        for name in getattr(encoder, "constants", ())
        if name in both and state[name].shape == expected[name].shape
        if not torch.equal(state[name], expected[name].cpu())
    ]
    groups = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "mismatched": mismatched,
        "different constants": constants,
    }
    return [f"{title}: {shown(', '.join(names))}" for title, names in groups.items() if names]
