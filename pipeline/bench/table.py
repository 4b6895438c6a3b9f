"""What the figures were measured on, and the table that is printed."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from skelpipe.bench.timing import BenchRow
from skelpipe.bench.workload import Workload

__all__ = ["machine", "machine_lines", "table"]

CPU_FACTS: Final = Path("/proc/cpuinfo")


def machine(workload: Workload) -> dict[str, Any]:
    """Return the hardware, the versions and the clips, as JSON-ready values. `gpu` is None on a CPU."""
    on_gpu = workload.device.type == "cuda"
    return {
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(workload.device) if on_gpu else None,
        "device": str(workload.device),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "shape": list(workload.dataset.shape),
        "clips": workload.dataset.count(workload.subset),
        "batch_size": workload.batch,
    }


def machine_lines(facts: dict[str, Any], dataset: str) -> str:
    """Return two lines: the machine, and the clips that were measured with."""
    gpu = f"; {facts['gpu']}" if facts["gpu"] else ""
    where = f"{facts['cpu']}, {facts['cpus']} CPUs of which torch uses {facts['torch_threads']}{gpu}"
    what = f"{facts['clips']:,} clips {facts['shape']} of {dataset}, batches of {facts['batch_size']}"
    return f"{where}; torch {facts['torch']}, Python {facts['python']}\n{what}, on {facts['device']}"


def table(rows: Sequence[BenchRow]) -> str:
    """Return the rows as aligned text; rates in samples/s."""
    head = (
        "samples/s of",
        "skelpipe",
        "reference",
        "ratio",
        "half of the turns",
        "ms per batch",
        "the reference is",
    )
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        padded = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        padded[0], padded[-1] = line[0].ljust(widths[0]), line[-1]
        lines.append("  ".join(padded))
    return "\n".join(lines)


def _cells(row: BenchRow) -> tuple[str, ...]:
    facts = row.to_plain()
    return (
        row.what,
        f"{row.ours:,.0f}",
        f"{row.reference:,.0f}",
        _ratio(row.ratio),
        "" if row.rates.spread is None else " - ".join(map(_ratio, row.rates.spread)),
        f"{facts['batch_ms']:.2f}",
        row.against,
    )


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _cpu_name() -> str:
    try:
        lines = CPU_FACTS.read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
