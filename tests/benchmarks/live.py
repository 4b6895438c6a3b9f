"""Milliseconds from the last frame of a window to its prediction, beside the network's alone.

    OMP_NUM_THREADS=1 python tests/benchmarks/live.py
    OMP_NUM_THREADS=1 python tests/benchmarks/live.py --window 64 --stride 1 --json

The network is an ST-GCN (h=16) of random weights and 60 classes, on clips `[3,50,25,2]` of profile `crosclr`;
frames are synthetic, of one body. Windows and bare forward passes alternate. `frame` is the time of a frame that
completes no window.
"""

import json
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from skelpipe.manifest_file import load_manifest
from skelpipe.models import build_encoder
from skelpipe.preprocess import CROSCLR, profile_writer
from skelpipe.train.evaluation.live import LiveRecogniser
from skelpipe.train.evaluation.recogniser import Recogniser

FRAMES, BODIES, JOINTS = 50, 2, 25
WARM = 3  # windows that are not measured


def random_recogniser() -> Recogniser:
    """Return a classifier of the papers' size."""
    manifest = load_manifest("ntu60")
    encoder = build_encoder({"name": "stgcn"}, manifest.layout)
    network = nn.Sequential(encoder, nn.Linear(encoder.feature_dim, len(manifest.classes))).eval()
    networks, write = nn.ModuleDict({"joint": network}), profile_writer(CROSCLR)
    return Recogniser(
        Path("random"), networks, manifest.classes, manifest, CROSCLR, write, FRAMES, BODIES, "float32"
    )


@torch.no_grad()
def measure(window: int, stride: int, windows: int) -> dict[str, Any]:
    """Return medians and the 95th percentile in ms."""
    recogniser = random_recogniser()
    live = LiveRecogniser(recogniser, window, stride)
    poses = np.random.default_rng(0).normal(size=(window + stride * (windows + WARM), 1, JOINTS, 3))
    clip = torch.randn(1, 3, FRAMES, JOINTS, BODIES)
    whole, bare, frames = [], [], []
    for pose in poses:
        start = time.perf_counter()
        found = live.push(pose)
        took = 1000 * (time.perf_counter() - start)
        if found is None:
            frames.append(took)
            continue
        whole.append(took)
        start = time.perf_counter()
        recogniser.scores(clip)
        bare.append(1000 * (time.perf_counter() - start))
    whole, bare = whole[WARM:], bare[WARM:]
    return {
        "window": window,
        "stride": stride,
        "windows": len(whole),
        "threads": torch.get_num_threads(),
        "ms": median(whole),
        "ms_95": quantiles(whole, n=20)[-1],
        "network_ms": median(bare),
        "ratio": median(bare) / median(whole),
        "frame_ms": median(frames) if frames else 0.0,
    }


@click.command()
@click.option("--window", default=64, show_default=True, help="Frames of a window.")
@click.option("--stride", default=16, show_default=True, help="Frames from one window to the next.")
@click.option("--windows", default=60, show_default=True, help="Windows that are measured.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def main(window: int, stride: int, windows: int, as_json: bool) -> None:
    """Measure the latency of live recognition."""
    found = measure(window, stride, windows)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(
        f"{found['ms']:.1f} ms per window of {window} frames (95 %: {found['ms_95']:.1f} ms), the network alone "
        f"{found['network_ms']:.1f} ms: ratio {found['ratio']:.2f}; {1000 * found['frame_ms']:.0f} us per frame"
    )


if __name__ == "__main__":
    main()
