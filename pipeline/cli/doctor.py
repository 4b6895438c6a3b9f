"""`skelpipe doctor`."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from skelpipe import __version__
from skelpipe.cli.command import Command
from skelpipe.cli.options import json_option
from skelpipe.untrusted import shown

__all__ = ["Finding", "doctor", "examine"]

CORE = ("torch", "numpy", "numba", "pyarrow", "h5py", "webdataset", "click")
OPTIONAL = {
    "nvidia-dali-cuda120": "dali",
    "distributed": "dask",
    "matplotlib": "plot",
    "lightning": "lightning",
    "onnx": "onnx",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow-skinny": "mlflow",
}
FEW_DESCRIPTORS = 1024  # a dataset keeps one open file per shard and view
MISSING, BROKEN = "missing", "does not import"
FULL = 5 << 30  # free bytes below which a dataset may not fit


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what is there, and, where something is amiss, what to do."""

    name: str
    found: str
    advice: str = ""


@click.command(cls=Command, epilog="Example: skelpipe doctor --json")
@json_option
def doctor(*, as_json: bool) -> None:
    """Say what this machine has of what skelpipe uses, and what is amiss.

    Versions, torch's build and device, the cache of compiled kernels, free disk, open files, DALI and S3. The exit
    code is 1 if a package is missing that is always needed, or torch cannot be imported.
    """
    findings = examine(os.environ)
    if as_json:
        click.echo(json.dumps({each.name: {"found": each.found, "advice": each.advice} for each in findings}))
    else:
        width = max(len(each.name) for each in findings)
        for each in findings:
            click.echo(f"{each.name:{width}}  {each.found}")
            if each.advice:
                click.echo(f"{'':{width}}  -> {each.advice}")
    sys.exit(1 if any(each.found in (MISSING, BROKEN) for each in findings) else 0)


def examine(environment: Mapping[str, str]) -> list[Finding]:
    """Return what there is; no value of a secret variable is in it."""
    found = [Finding("skelpipe", f"{__version__} in {Path(__file__).parents[1]}")]
    found.append(Finding("Python", f"{platform.python_version()} on {platform.platform()}"))
    for name in CORE:
        installed = _version(name)
        found.append(Finding(name, installed or MISSING, "" if installed else f"pip install {name}"))
    found += [_device(), _kernels(), _disk(environment), _descriptors()]
    for name, extra in OPTIONAL.items():
        installed = _version(name)
        found.append(Finding(name, installed or f"not installed (pip install 'skelpipe[{extra}]')"))
    found.append(_s3(environment))
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _device() -> Finding:
    try:
        import torch
    except Exception as error:  # a library of CUDA that is missing is an OSError, a mix of versions anything
        return Finding("device", BROKEN, f"import torch: {shown(error)}")
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} processors"
    if not torch.cuda.is_available():
        built = torch.version.cuda
        advice = f"this torch is built for CUDA {built}, and sees no GPU: look at the driver" if built else ""
        return Finding("device", f"CPU, {threads}", advice)
    names = ", ".join(torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count()))
    return Finding("device", f"CUDA {torch.version.cuda}: {names}; {threads}")


def _kernels() -> Finding:
    """Whether numba can keep what it compiles; if not, every process compiles anew."""
    try:
        from skelpipe.raw.ntu_scan import scan

        place = scan.stats.cache_path
    except RuntimeError as error:
        return Finding("kernel cache", "none", f"numba finds no place for it: {shown(error)}; set NUMBA_CACHE_DIR")
    except Exception as error:
        return Finding("kernel cache", BROKEN, f"import numba: {shown(error)}")
    if place is None:
        return Finding("kernel cache", "off", "every process compiles its kernels anew: is NUMBA_DISABLE_JIT set?")
    folder = Path(place)
    writable = os.access(folder if folder.is_dir() else folder.parent, os.W_OK)
    advice = "" if writable else "not writable: every process compiles its kernels anew; set NUMBA_CACHE_DIR"
    return Finding("kernel cache", str(folder), advice)


def _disk(environment: Mapping[str, str]) -> Finding:
    parts, advice = [], ""
    for name, folder in (("here", "."), ("cache", environment.get("SKELPIPE_CACHE"))):
        if folder and Path(folder).is_dir():
            free = shutil.disk_usage(folder).free
            parts.append(f"{free / 1e9:.0f} GB free {name}")
            if free < FULL:
                advice = "a prepared NTU RGB+D 120 with three views takes about 10 GB"
    return Finding("disk", ", ".join(parts), advice)


def _descriptors() -> Finding:
    try:
        import resource
    except ImportError:  # Windows
        return Finding("open files", "no limit of this process")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    advice = f"many shards and views may need more: ulimit -n {hard}" if soft <= FEW_DESCRIPTORS < hard else ""
    return Finding("open files", f"at most {soft} ({hard} with ulimit -n)", advice)


def _s3(environment: Mapping[str, str]) -> Finding:
    """Which of S3's own settings are there, without what they say."""
    from skelpipe.storage.urls import CREDENTIALS

    given = [name for name in (*CREDENTIALS, "AWS_REGION", "AWS_ENDPOINT_URL") if environment.get(name)]
    files = [name for name in ("~/.aws/credentials", "~/.aws/config") if Path(name).expanduser().is_file()]
    return Finding("S3", f"set: {', '.join([*given, *files])}" if given or files else "no credentials set")
