"""What to write for each dataset that can be simulated."""

from dataclasses import dataclass, field

from skelpipe.synth import msr, ntu, pku
from skelpipe.synth.msr_names import plan_clips
from skelpipe.synth.ntu_names import plan_performances, split_counts
from skelpipe.synth.options import Options
from skelpipe.synth.pku_names import plan_videos
from skelpipe.synth.store import Take

__all__ = ["Plan", "plan_dataset"]


@dataclass(frozen=True)
class Plan:
    """The takes of a dataset, the numbers that occur in it by kind, and the split sizes that are told of NTU."""

    takes: list[Take]
    numbers: dict[str, list[int]]
    splits: dict[str, dict[str, int]] = field(default_factory=dict)


def plan_dataset(options: Options, subjects: int, actions: int, repeats: int) -> Plan:
    """Plan subjects x actions x repeats performances; UsageError where the dataset has no room for them."""
    match options.dataset:
        case "msr-action3d":
            clips = plan_clips(subjects, actions, repeats)
            performed = [(clip.action, clip.subject) for clip in clips]
            return Plan(msr.takes(options, clips), _numbers(performed))
        case "pkummd1" | "pkummd2":
            videos = plan_videos(options, subjects, actions, repeats)
            performed = [(label, video.subject) for video in videos for label in video.classes]
            return Plan(pku.takes(options, videos), _numbers(performed))
    performances = plan_performances(options.dataset, subjects, actions, repeats)
    numbers = _numbers([(performance.action, performance.subject) for performance in performances])
    numbers["setups"] = sorted({performance.setup for performance in performances})
    return Plan(ntu.takes(options, performances), numbers, split_counts(options.dataset, performances))


def _numbers(performed: list[tuple[int, int]]) -> dict[str, list[int]]:
    actions, subjects = zip(*performed, strict=True)
    return {"actions": sorted(set(actions)), "subjects": sorted(set(subjects))}
