"""The recordings of a synthetic MSR Action3D: names in the manifest's ranges, none on its missing list."""

from dataclasses import dataclass

from skelpipe.manifest_file import load_manifest
from skelpipe.synth.choice import require_between

__all__ = ["MOTIONS", "Clip", "plan_clips"]

DATASET = "msr-action3d"

# The motion of each class: the number of the one-person NTU class with the same or the most similar name.
MOTIONS = (
    23,  # high arm wave: hand waving
    98,  # horizontal arm wave: arm swings
    93,  # hammer: shake fist
    66,  # hand catch: juggling table tennis balls
    31,  # forward punch: pointing to something with finger
    63,  # high throw: shoot at the basket
    12,  # draw x: writing
    30,  # draw tick: typing on a keyboard
    97,  # draw circle: arm circles
    10,  # hand clap: clapping
    95,  # two hand wave: hands up
    96,  # side-boxing: cross arms
    35,  # bend: nod head/bow
    24,  # forward kick: kicking something
    102,  # side kick
    99,  # jogging: running on the spot
    65,  # tennis swing: tennis bat swing
    64,  # tennis serve: bounce ball
    101,  # golf swing: cross toe touch
    6,  # pickup & throw: pickup
)


@dataclass(frozen=True, order=True)
class Clip:
    """One recording; there is one camera."""

    action: int
    subject: int
    replication: int

    @property
    def identity(self) -> str:
        return f"a{self.action:02}_s{self.subject:02}_e{self.replication:02}"

    @property
    def file_name(self) -> str:
        return f"{self.identity}_skeleton3D.txt"


def plan_clips(subjects: int, actions: int, repeats: int) -> list[Clip]:
    """List subjects x actions x repeats recordings, sorted; subjects alternate between the subsets of the split.

    A name on the manifest's missing list is replaced by another repeat of the same subject and action, or left
    out if there is none. Raises UsageError if the dataset has too few names for the request.
    """
    manifest = load_manifest(DATASET)
    limits = {"subject": subjects, "action": actions, "replication": repeats}
    for (key, count), option in zip(limits.items(), ("subjects", "actions", "repeats"), strict=True):
        low, high = manifest.ranges[key]
        require_between(option, count, 1, high, f"{DATASET} has {key}s {low} to {high}")
    tries = range(1, manifest.ranges["replication"][1] + 1)
    found = []
    for action in range(1, actions + 1):
        for subject in range(1, subjects + 1):
            clips = [Clip(action, subject, replication) for replication in tries]
            found += [clip for clip in clips if clip.identity not in manifest.missing][:repeats]
    return found
