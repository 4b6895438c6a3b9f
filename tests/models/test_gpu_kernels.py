"""Triton's kernels, run by its interpreter on a CPU, against the operations of torch that they stand for."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from skelpipe.models import gpu_block, gpu_ops

CASES = {
    # rows, channels, joints, groups, dropout, around, rectified, counted, type
    "a layer": (600, 16, 25, 2, 0.5, True, True, False, torch.float32),
    "rows that stand for several": (600, 16, 25, 1, 0.0, False, True, True, torch.float32),
    "the input": (1500, 75, 0, 3, 0.0, False, False, False, torch.float32),
    "half precision": (500, 40, 25, 2, 0.25, True, True, True, torch.bfloat16),
}


@pytest.mark.skipif(find_spec("triton") is None, reason="triton comes with torch's builds for CUDA")
def test_kernels_do_what_torch_does() -> None:
    # Triton decides when it is imported whether it interprets, and torch may have imported it here.
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, __file__], env=environment, check=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_kernels_work_on_this_gpu() -> None:
    assert gpu_block.ready()


def compare(case: str) -> None:
    from skelpipe.models import gpu_kernels as kernels

    rows, channels, joints, groups, p, beside, rectify, counted, dtype = CASES[case]
    torch.manual_seed(0)
    x, given, around = ((torch.randn(rows, channels) * 2 + 1).to(dtype) for _ in range(3))
    offset = torch.randn(joints, 2 * channels)[:, :channels] if joints else None
    counts = torch.randint(4, (rows // 25,)).float() if counted else None
    weight, bias = torch.rand(channels) + 0.5, torch.randn(channels)
    seed = torch.tensor([2**61 + 987654321]) if p else None
    at = around if beside else None
    outcome = []
    for module in (gpu_ops, kernels):
        running = torch.zeros(channels), torch.ones(channels)
        parts = module.moments(x, offset, counts, groups)
        y, found = module.finish(x, offset, parts, weight, bias, *running, 0.1, 1e-5, at, seed, p, rectify, dtype)
        # From here on of equal numbers: rounding may open or close a rectifier.
        same, stats = outcome[0][:2] if outcome else (y, found)
        common = x, offset, stats, weight, bias
        sums, back = module.finish_sums(given, *common, same if beside else None, seed, p, rectify)
        steep = (given, rectify) if back is None else (back, False)
        dx, own = module.finish_slopes(steep[0], *common, sums, counts, seed, p, steep[1])
        outcome.append((y, found, *running, own, dx, *([] if back is None else [back])))
    loose = {torch.float32: 1e-4, torch.bfloat16: 2e-2}[dtype]
    for wanted, here in zip(*outcome, strict=True):
        torch.testing.assert_close(here, wanted, rtol=loose, atol=loose * float(wanted.abs().max().clamp(min=1)))


def compare_graph(poses: int, joints: int, c_in: int, c_out: int, dtype: torch.dtype) -> None:
    from skelpipe.models import gpu_kernels as kernels

    torch.manual_seed(0)
    x, around, given = (torch.randn(poses, joints, c).to(dtype) for c in (c_in, c_in, c_out))
    gather, maps = torch.randn(3 * joints, joints).to(dtype), torch.randn(c_out, 3 * c_in).to(dtype)
    outcome = []
    for module in (gpu_ops, kernels):
        plain = module.graph(x, gather, maps), module.graph_slopes(given, x, gather, maps, None)[0]
        dx, *parts = module.graph_slopes(given, x, gather, maps, around)
        parts.append(module.graph_weights(given, x, gather, maps))
        outcome.append([*plain, dx, *(each.float().sum(0) for each in parts)])
    for wanted, here in zip(*outcome, strict=True):
        room = {torch.float32: 1e-5, torch.float16: 1e-2}[dtype] * float(wanted.abs().max())
        torch.testing.assert_close(here.float(), wanted.float(), rtol=0, atol=room)


if __name__ == "__main__":
    for each in CASES:
        compare(each)
    compare_graph(19, 25, 3, 16, torch.float32)
    compare_graph(10, 17, 64, 80, torch.float32)
    compare_graph(9, 25, 40, 24, torch.float16)  # the interpreter cannot multiply bfloat16
