"""Plan the recordings of a synthetic dataset."""

from dataclasses import dataclass, field

from skelpipe.synth import msr, ntu, nw_ucla, pku
from skelpipe.synth.msr_names import plan_clips
from skelpipe.synth.ntu_names import plan_performances, split_counts
from skelpipe.synth.nw_ucla_names import plan_takes
from skelpipe.synth.options import SynthOptions
from skelpipe.synth.pku_names import plan_videos
from skelpipe.synth.store import RenderJob

__all__ = ["SynthPlan", "plan_dataset"]


@dataclass(frozen=True)
class SynthPlan:
    """The jobs of a dataset, its action, subject and setup numbers, and for NTU the sizes of the subsets."""

    jobs: list[RenderJob]
    numbers: dict[str, list[int]]
    splits: dict[str, dict[str, int]] = field(default_factory=dict)


def plan_dataset(options: SynthOptions, subjects: int, actions: int, repeats: int) -> SynthPlan:
    """Plan subjects x actions x repeats performances; UsageError if the dataset has too few names for them."""
    match options.dataset:
        case "msr-action3d":
            clips = plan_clips(subjects, actions, repeats)
            performed = [(clip.action, clip.subject) for clip in clips]
            return SynthPlan(msr.render_jobs(options, clips), _numbers(performed))
        case "nw-ucla":
            takes = plan_takes(subjects, actions, repeats)
            performed = [(take.action, take.subject) for take in takes]
            return SynthPlan(nw_ucla.render_jobs(options, takes), _numbers(performed))
        case "pkummd1" | "pkummd2":
            videos = plan_videos(options, subjects, actions, repeats)
            performed = [(label, video.subject) for video in videos for label in video.classes]
            return SynthPlan(pku.render_jobs(options, videos), _numbers(performed))
    performances = plan_performances(options.dataset, subjects, actions, repeats)
    numbers = _numbers([(performance.action, performance.subject) for performance in performances])
    numbers["setups"] = sorted({performance.setup for performance in performances})
    return SynthPlan(ntu.render_jobs(options, performances), numbers, split_counts(options.dataset, performances))


def _numbers(performed: list[tuple[int, int]]) -> dict[str, list[int]]:
    actions, subjects = zip(*performed, strict=True)
    return {"actions": sorted(set(actions)), "subjects": sorted(set(subjects))}
