"""The videos of a synthetic PKU-MMD: their names, subject, actions, and subset in the cross-subject split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from skelpipe.errors import UsageError
from skelpipe.synth.actions import INTERACTIONS
from skelpipe.synth.choice import choose_classes, in_turns, require_between
from skelpipe.synth.options import SynthOptions
from skelpipe.synth.seeds import Draw, generator

__all__ = ["MOTIONS", "SUBJECTS", "VIEWS", "VideoName", "plan_videos"]

VIEWS = {"L": 2, "M": 1, "R": 3}  # the camera of the room for each view
SUBJECTS = {"pkummd1": 66, "pkummd2": 13}
PERFORMANCES = 6  # approximate number per video
PART_1 = {"train": (*range(2, 291), *range(335, 365)), "test": tuple(range(291, 335))}  # video numbers
PART_2_SEQUENCES = 26
PART_2_TEST = (2, 3, 7)  # subjects

# The motion of each class: the number of the NTU class with the same name, or else the most similar one.
MOTIONS = (
    *(35, 4, 3, 33, 22, 10, 40, 1, 5, 2),  # bow … eat meal/snack
    *(43, 56, 23, 58, 26, 55, 27, 51, 24, 28),  # falling … make a phone call/answer phone
    *(53, 6, 29, 54, 31, 50, 52, 20, 89, 11),  # pat on back of other person … reading
    *(34, 38, 8, 9, 21, 19, 15, 25, 32, 13),  # rub two hands together … tear up paper
    *(7, 46, 45, 44, 47, 30, 49, 14, 18, 37, 12),  # throw … writing
)

# Per subject: its number, its subset, and the numbers in the names of its videos.
Names = Iterator[tuple[int, str, list[tuple[int, ...]]]]


@dataclass(frozen=True)
class VideoName:
    """One video of every camera in `VIEWS`: `name` is without the view, `key` holds the numbers in the name.

    `subject` performs `classes` (from 1) in this order; the cameras stand as in `setup`.
    """

    name: str
    key: tuple[int, ...]
    setup: int
    subset: str
    subject: int
    classes: tuple[int, ...]

    def identity(self, view: str) -> str:
        return f"{self.name}-{view}"


def plan_videos(options: SynthOptions, subjects: int, actions: int, repeats: int) -> list[VideoName]:
    """List videos in which each subject performs each action `repeats` times, in a random order.

    A video holds about six performances by one subject. Subjects alternate between the subsets of the
    cross-subject split while both have names left. Raises UsageError if the dataset has too few names for the
    request.
    """
    highest = SUBJECTS[options.dataset]
    require_between("subjects", subjects, 1, highest, f"{options.dataset} has subjects 1 to {highest}")
    require_between("actions", actions, 1, len(MOTIONS), f"{options.dataset} has classes 1 to {len(MOTIONS)}")
    require_between("repeats", repeats, 1, repeats, "at least 1 is needed")
    classes = _classes(actions)
    found = []
    count = max(round(len(classes) * repeats / PERFORMANCES), 1)
    names = _part_1(subjects, count) if options.dataset == "pkummd1" else _part_2(subjects, count)
    for subject, subset, keys in names:
        order = _order(options, subject, classes, repeats)
        for key, first in zip(keys, range(count), strict=True):
            found.append(_video(key, subset, subject, tuple(order[first::count])))
    return sorted(found, key=lambda video: video.name)


def _classes(count: int) -> list[int]:
    pairs = [label for label, motion in enumerate(MOTIONS, 1) if motion in INTERACTIONS]
    singles = [label for label, motion in enumerate(MOTIONS, 1) if motion not in INTERACTIONS]
    return choose_classes(singles, pairs, count)


def _order(options: SynthOptions, subject: int, classes: Sequence[int], repeats: int) -> list[int]:
    """Every class `repeats` times: each repeat holds all classes in a random order of its own."""
    order: list[int] = []
    for repeat in range(repeats):
        rng = generator(options.seed, Draw.ORDER, options.number, subject, repeat)
        order += rng.permutation(classes).tolist()
    return order


def _video(key: tuple[int, ...], subset: str, subject: int, classes: tuple[int, ...]) -> VideoName:
    if len(key) == 1:
        return VideoName(f"{key[0]:04}", key, 1, subset, subject, classes)
    return VideoName(f"A{key[0]:02}N{key[1]:02}", key, key[0], subset, subject, classes)


def _part_1(subjects: int, count: int) -> Names:
    """Give each subject consecutive video numbers; when a subset has too few left, those of the other."""
    free = {subset: list(numbers) for subset, numbers in PART_1.items()}
    for subject in range(1, subjects + 1):
        subsets = ("train", "test") if subject % 2 else ("test", "train")
        subset = next((subset for subset in subsets if len(free[subset]) >= count), None)
        if subset is None:
            raise UsageError(
                f"part I has no numbers for {count} videos of each of {subjects} subjects; ask for fewer "
                "--subjects, --actions or --repeats"
            )
        yield subject, subset, [(number,) for number in free[subset][:count]]
        del free[subset][:count]


def _part_2(subjects: int, count: int) -> Names:
    """Give each subject sequence numbers; a name holds both numbers."""
    if count > PART_2_SEQUENCES:
        raise UsageError(
            f"part II has names for {PART_2_SEQUENCES} videos per subject, not for {count}; ask for fewer "
            "--actions or --repeats"
        )
    training = [number for number in range(1, SUBJECTS["pkummd2"] + 1) if number not in PART_2_TEST]
    for subject in list(in_turns([training, PART_2_TEST]))[:subjects]:
        subset = "test" if subject in PART_2_TEST else "train"
        yield subject, subset, [(sequence, subject) for sequence in range(1, count + 1)]
