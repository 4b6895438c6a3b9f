"""`prepare`: from raw recordings to a dataset, shard by shard, in bounded memory, on any number of processes.

The bytes do not depend on the number of workers, the engine, the order in which folders are listed, or the number
of interruptions: a shard gets its name when it is complete, receipts record finished shards, and the card is
written last.
"""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from skelpipe.dataset.card import CARD
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import canonical_json
from skelpipe.front.descriptions import counted
from skelpipe.manifest import Manifest
from skelpipe.prepare.assemble import assemble
from skelpipe.prepare.clips import ClipReader
from skelpipe.prepare.engines import run_jobs, run_on_dask, workers_ready
from skelpipe.prepare.name_example import example_file
from skelpipe.prepare.plan import Plan
from skelpipe.prepare.planner import make_plan, unmatched_split
from skelpipe.prepare.plausibility import implausible_bodies
from skelpipe.prepare.provenance import ChangedError, WholeFiles, changed_since, refuse_changed
from skelpipe.prepare.shard_writer import ShardJob
from skelpipe.prepare.untrimmed_writer import VideoJob, video_shards
from skelpipe.prepare.upload import scratch_cleared
from skelpipe.prepare.writers import DatasetWriter, open_writer
from skelpipe.preprocess import CROSCLR, CTRGCN, Policies, profile_writer
from skelpipe.progress import progress
from skelpipe.raw.collections.formats import import_hint
from skelpipe.raw.source import find_raw_files
from skelpipe.storage import open_filesystem
from skelpipe.storage.filesystem import Filesystem

__all__ = ["FORMATS", "Options", "Outcome", "clip_shape", "prepare", "survey", "write_dataset"]

CLUTTER = "written by macOS or Windows beside the files (__MACOSX, ._*, .DS_Store, Thumbs.db, desktop.ini)"
SHOWN = 3  # reasons that a message lists
HINTS = 100  # files that are looked at for one that holds many recordings
FORMATS = {"shards": ("shards",), "hdf5": ("hdf5",), "both": ("hdf5", "shards")}


@dataclass(frozen=True)
class Options:
    """Everything beside the raw files that decides the content of a dataset.

    The last three are policies (see `skelpipe.preprocess.Policies`); None is that of the manifest.
    """

    split: str
    frames: int = 64
    bodies: int = 2
    shard_size: int = 1024
    profile: str = CROSCLR
    dtype: str = "float32"
    second_body: str = "zeros"
    untrimmed: bool = False
    body_choice: str | None = None
    empty_frames: str | None = None
    missing_joints: str | None = None

    def resolved(self, manifest: Manifest) -> "Options":
        """Return these options with the policies of the manifest where they say none."""
        said = {key: getattr(self, key) or value for key, value in asdict(Policies.of(manifest)).items()}
        return replace(self, **said)

    @property
    def policies(self) -> Policies:
        return Policies.of_options(asdict(self))


@dataclass(frozen=True)
class Outcome:
    """The result of prepare: the card, ignored recordings by reason, whether the dataset was complete before.

    `implausible` holds sentences on bodies that do not look like bodies; empty where nothing was done.
    """

    card: dict[str, Any]
    outside: dict[str, int]
    was_complete: bool
    implausible: tuple[str, ...] = ()


def prepare(
    manifest: Manifest,
    raw: Sequence[str | Path],
    out: str | Path | Filesystem,
    options: Options,
    *,
    formats: Sequence[str] = FORMATS["shards"],
    workers: int = 1,
    scheduler: str | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    check_raw: bool = False,
    work: Path | None = None,
    quiet: bool = False,
) -> Outcome:
    """Write the dataset `out` from the recordings in the folders and .zip archives `raw`; return its card.

    `out` is a folder or the URL of a bucket. For a bucket, each worker writes one shard at a time into a scratch
    folder under `work` (None: the folder for temporary files) and uploads it. `formats` are the containers, one or
    both of "shards" and "hdf5"; the digest is the same. The work is done by `workers` processes or by the dask
    cluster of `scheduler`. An unfinished prepare is continued; one with other options or other raw files is
    refused. With `check_raw` all raw files of a finished dataset are hashed, else those of other times or sizes.
    Raises RawError for a damaged recording unless `skip_bad` (then it is a row with its reason), and SkelpipeError
    if a folder or bucket cannot be read or written, or a raw file changes meanwhile.
    """
    if scheduler:  # the workers of a cluster have another current folder
        raw = [Path(folder).resolve() for folder in raw]
    return write_dataset(
        manifest,
        lambda: survey(manifest, raw, options, skip_bad=skip_bad),
        out,
        options,
        formats=formats,
        workers=workers,
        scheduler=scheduler,
        skip_bad=skip_bad,
        overwrite=overwrite,
        check_raw=check_raw,
        work=work,
        quiet=quiet,
    )


def write_dataset(
    manifest: Manifest,
    plan_of: Callable[[], Plan],
    out: str | Path | Filesystem,
    options: Options,
    *,
    formats: Sequence[str] = FORMATS["shards"],
    workers: int = 1,
    scheduler: str | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    check_raw: bool = False,
    work: Path | None = None,
    quiet: bool = False,
) -> Outcome:
    """Write the dataset `out` from the clips of a plan, which `plan_of` makes while the workers start.

    The other arguments, the result and the errors are those of `prepare`.
    """
    started, options = time.time_ns(), options.resolved(manifest)
    target = open_filesystem(out) if isinstance(out, str | Path) else out
    if scheduler:
        work = work and work.resolve()
        target = open_filesystem(target.local_path.resolve()) if target.is_local else target
    finished = not overwrite and target.size(CARD) is not None  # probably there is nothing to do
    scratch = nullcontext() if target.is_local else scratch_cleared(work)
    with scratch, workers_ready(1 if scheduler or finished else workers) as pool:
        plan = plan_of()
        plain_options = {"dataset": manifest.name, **asdict(options)}
        settings = {
            **plain_options,
            "definition": manifest.definition(options.split),
            "raw_fingerprint": plan.fingerprint(),
            "formats": sorted(formats),
        }
        times = plan.fingerprint(times=True)
        if (skip_bad or manifest.windows) and not finished:
            _require_a_clip(manifest, plan, options)
        changed = partial(changed_since, plan, check_raw=check_raw)
        lock = open_writer(
            target,
            settings,
            overwrite=overwrite,
            raw_times=times,
            changed=changed,
            work=work,
            say=lambda line: None if quiet else print(line, file=sys.stderr),
        )
        with lock as writer:
            if isinstance(writer, dict):
                return Outcome(writer, dict(plan.outside), was_complete=True)
            settings_hash = hashlib.sha256(canonical_json({**settings, "raw_times": times})).hexdigest()
            jobs, video_jobs = _jobs(manifest, plan, options, writer, skip_bad, settings_hash)
            all_jobs: list[ShardJob | VideoJob] = [*jobs, *video_jobs]
            receipts = writer.read_receipts(all_jobs)
            waiting = [writer.task(job) for job, done in zip(all_jobs, receipts, strict=True) if done is None]
            finishing = run_on_dask(waiting, scheduler) if scheduler else run_jobs(waiting, pool)
            beside = ThreadPoolExecutor(1, "skelpipe-look")  # while the workers read
            looked_at = beside.submit(implausible_bodies, manifest, plan.samples)
            with beside, WholeFiles(sample.file for sample in plan.samples) as whole:
                for _ in progress(finishing, f"prepare {target}: shards", len(waiting), quiet=quiet):
                    pass

                def raw_hashes(read: Mapping[str, str]) -> Mapping[str, str | None]:
                    hashes = {sample.id: whole.of(sample.file, read, sample.id) for sample in plan.samples}
                    refuse_changed(plan, hashes, started)
                    return hashes

                plain = (manifest, plain_options, plan, jobs, video_jobs, settings["formats"])
                try:
                    card = assemble(*plain, writer, raw_hashes)
                except ChangedError as error:
                    for job in all_jobs:  # else the next run would continue with what was read before
                        if error.samples.intersection(_clips(job, plan)):
                            writer.drop(job)
                    raise
    return Outcome(card, dict(plan.outside), was_complete=False, implausible=tuple(looked_at.result()))


def _clips(job: ShardJob | VideoJob, plan: Plan) -> set[str]:
    """Return the ids of a job's clips, of videos those that are cut from them."""
    if isinstance(job, ShardJob):
        return {sample.id for sample in job.shard.samples}
    videos = {video.file for video in job.shard.videos}
    return {sample.id for sample in plan.samples if sample.file in videos}


def _require_a_clip(manifest: Manifest, plan: Plan, options: Options) -> None:
    """Raise SkelpipeError, before anything is written or replaced, if every recording of the plan is damaged.

    Reads recordings up to the first that becomes a clip, usually one.
    """
    shape = clip_shape(manifest, options)
    how = (options.dtype, options.profile, options.second_body, options.policies)
    reader = ClipReader(manifest, shape, *how, skip_bad=True)
    for sample in plan.samples:
        if reader.read([sample])[0]:
            return
    reasons = Counter(reason for _, reason in reader.drops).most_common(SHOWN)
    listed = "; ".join(f"{reason} ({count:,} times)" if count > 1 else reason for reason, count in reasons)
    count = f"{counted(len(plan.samples), 'recording')} of {manifest.name}"
    raise SkelpipeError(f"none of the {count} becomes a clip, nothing is written: {listed}")


def _jobs(
    manifest: Manifest, plan: Plan, options: Options, writer: DatasetWriter, skip_bad: bool, settings: str
) -> tuple[list[ShardJob], list[VideoJob]]:
    """Return the jobs for all shards and tars of videos; `settings` is a hash of everything that decides them."""
    shape = clip_shape(manifest, options)
    where = (writer.folder, writer.receipts)
    profile = (options.profile, options.second_body, options.policies)
    how = (*where, shape, options.dtype, *profile, skip_bad, settings)
    manifest = manifest.without_lists()
    shards = [ShardJob(manifest, shard, *how) for shard in plan.shards(options.shard_size)]
    videos = video_shards(plan.videos) if options.untrimmed else []
    video_how = (*where, (shape[0], *shape[2:]), options.policies, skip_bad, settings)
    return shards, [VideoJob(manifest, video, *video_how) for video in videos]


def clip_shape(manifest: Manifest, options: Options) -> tuple[int, int, int, int]:
    """Return the shape [C,T,V,M] of the clips."""
    return (len(manifest.stored_channels), options.frames, len(manifest.layout), options.bodies)


def survey(manifest: Manifest, raw: Sequence[str | Path], options: Options, *, skip_bad: bool = False) -> Plan:
    """Return the plan of prepare from the names of all raw files (and from label files).

    Raises UsageError for options that exclude each other, SkelpipeError if there is nothing to prepare.
    """
    if options.body_choice and options.profile == CTRGCN:
        raise UsageError(
            f"--body-choice {options.body_choice}: profile {CTRGCN} chooses bodies by its own rule; leave it out"
        )
    # Refuses options that exclude each other.
    profile_writer(options.profile, options.second_body, options.resolved(manifest).policies)
    if options.untrimmed and not manifest.segments:
        raise UsageError(
            f"--untrimmed: the recordings of {manifest.name} are single actions, not untrimmed videos"
        )
    files = find_raw_files(raw)
    plan = make_plan(manifest, options.split, files, skip_bad=skip_bad)
    if files.clutter:
        plan.outside[CLUTTER] = files.clutter
    if not plan.samples:
        folders = ", ".join(map(str, raw))
        hint = next(filter(None, (import_hint(file.path) for file in islice(files, HINTS))), "")
        if hint:
            raise SkelpipeError(f"no recording of {manifest.name} is found under {folders}; {hint}")
        if plan.drops:
            raise SkelpipeError(f"all recordings of {manifest.name} under {folders} are left out: {_others(plan)}")
        if said := unmatched_split(manifest, options.split, plan):
            raise UsageError(said)
        raise SkelpipeError(
            f"no recording of {manifest.name} is found under {folders} ({_others(plan)});"
            f" one would be named like {example_file(manifest)}"
        )
    return plan


def _others(plan: Plan) -> str:
    seen = [
        f"{count} {'files' if reason == CLUTTER else 'recordings'} {reason}"
        for reason, count in plan.outside.most_common(3)
    ]
    reasons = Counter(drop.reason for drop in plan.drops).most_common(SHOWN)
    seen += [f"{count:,} left out: {reason}" for reason, count in reasons]
    example = f", such as {Path(plan.other).name}" if plan.other else ""
    return "; ".join([*seen, f"{plan.others} other files{example}"])
