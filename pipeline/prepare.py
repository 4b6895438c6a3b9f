"""`prepare`: raw recordings to a dataset, shard by shard, in bounded memory, on any number of processes.

The bytes do not depend on the number of workers, on the order in which folders are listed, or on how often the
work was cut off: shards take their names when they are whole, receipts remember them, and the card comes last.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skelpipe.assemble import assemble
from skelpipe.card import read_card
from skelpipe.errors import SkelpipeError
from skelpipe.manifest import Manifest
from skelpipe.plan import Plan, make_plan
from skelpipe.preprocess import CROSCLR
from skelpipe.progress import progress
from skelpipe.raw.source import find_raw_files
from skelpipe.shard_writer import ShardJob, read_receipt, write_shard
from skelpipe.workspace import claimed

__all__ = ["Options", "Outcome", "prepare", "survey"]


@dataclass(frozen=True)
class Options:
    """Everything that decides the bytes of a dataset beside the raw files."""

    split: str
    frames: int = 64
    bodies: int = 2
    shard_size: int = 1024
    profile: str = CROSCLR


@dataclass(frozen=True)
class Outcome:
    """What prepare did: the card, recordings of other datasets by reason, and whether it was all done before."""

    card: dict[str, Any]
    outside: dict[str, int]
    was_complete: bool


def prepare(
    manifest: Manifest,
    raw: Sequence[str | Path],
    out: Path,
    options: Options,
    *,
    workers: int = 1,
    skip_bad: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Write the dataset `out` from the recordings in the folders and .zip archives `raw`; return its card.

    A prepare that was cut off goes on where it stopped; one of other options or other raw files is refused.
    Raises RawError for a damaged recording unless `skip_bad` (then it is a row with its reason).
    """
    plan = survey(manifest, raw, options.split, skip_bad=skip_bad)
    settings = {"dataset": manifest.name, **asdict(options), "raw_fingerprint": plan.fingerprint()}
    shape = (3, options.frames, len(manifest.layout), options.bodies)
    times = plan.fingerprint(times=True)
    with claimed(out, settings, overwrite=overwrite, raw_times=times, newest=plan.newest) as work:
        if work is None:
            return Outcome(read_card(out), dict(plan.outside), was_complete=True)
        jobs = [ShardJob(manifest, shard, out, work, shape, skip_bad) for shard in plan.shards(options.shard_size)]
        waiting = [job for job in jobs if read_receipt(job) is None]
        for _ in progress(_run(waiting, workers), f"prepare {out}: shards", len(waiting), quiet=quiet):
            pass
        card = assemble(manifest, asdict(options), plan, jobs, out)
    return Outcome(card, dict(plan.outside), was_complete=False)


def survey(manifest: Manifest, raw: Sequence[str | Path], split: str, *, skip_bad: bool = False) -> Plan:
    """Look at the names of all raw files and return what prepare would do; SkelpipeError if that is nothing."""
    plan = make_plan(manifest, split, find_raw_files(raw), skip_bad=skip_bad)
    if not plan.samples:
        places = ", ".join(map(str, raw))
        raise SkelpipeError(f"no recording of {manifest.name} lies under {places} ({_others(plan)})")
    return plan


def _others(plan: Plan) -> str:
    seen = [f"{count} recordings {reason}" for reason, count in plan.outside.most_common(3)]
    seen += [f"{len(plan.drops)} recordings left out"] if plan.drops else []
    return "; ".join([*seen, f"{plan.others} other files"])


def _run(jobs: Sequence[ShardJob], workers: int) -> Iterator[None]:
    """Write the shards, yielding after each; the first error ends the work, finished shards stay."""
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            write_shard(job)
            yield
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        futures = [pool.submit(write_shard, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise SkelpipeError(
                "a worker process was killed (out of memory?); run prepare again to go on"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
