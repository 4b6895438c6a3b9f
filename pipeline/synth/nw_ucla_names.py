"""The recordings of a synthetic Northwestern-UCLA: names in the manifest's ranges, three per performance."""

from dataclasses import dataclass

from skelpipe.manifest_file import load_manifest
from skelpipe.synth.choice import require_between

__all__ = ["CAMERAS", "MOTIONS", "Take", "plan_takes"]

DATASET = "nw-ucla"
CAMERAS = (1, 2, 3)

# The motion of each class by its number: the one-person NTU class with the same or the most similar name.
MOTIONS = {
    1: 6,  # pick up with one hand: pickup
    2: 80,  # pick up with two hands: squat down
    3: 5,  # drop trash: drop
    4: 99,  # walk around: running on the spot
    5: 8,  # sit down
    6: 9,  # stand up
    8: 14,  # donning: wear jacket
    9: 15,  # doffing: take off jacket
    11: 7,  # throw
    12: 91,  # carry: move heavy objects
}


@dataclass(frozen=True, order=True)
class Take:
    """One performance, which three cameras record."""

    action: int
    subject: int
    replication: int

    def identity(self, camera: int) -> str:
        return f"a{self.action:02}_s{self.subject:02}_e{self.replication:02}_v{camera:02}"

    def file_name(self, camera: int) -> str:
        return f"{self.identity(camera)}.json"


def plan_takes(subjects: int, actions: int, repeats: int) -> list[Take]:
    """List subjects x actions x repeats performances, sorted; the classes are the first by number.

    Raises UsageError if the dataset has too few names for the request.
    """
    manifest = load_manifest(DATASET)
    low, high = manifest.ranges["subject"]
    first, last = manifest.ranges["replication"]
    require_between("subjects", subjects, 1, high, f"{DATASET} has subjects {low} to {high}")
    require_between("actions", actions, 1, len(MOTIONS), f"{DATASET} has {len(MOTIONS)} actions")
    require_between("repeats", repeats, 1, last - first + 1, f"{DATASET} has replications {first} to {last}")
    return [
        Take(action, subject, first + repeat)
        for action in manifest.class_numbers[:actions]
        for subject in range(low, low + subjects)
        for repeat in range(repeats)
    ]
