"""Try damaged files on every parser for some time, and print how many were tried, taken, refused and at fault.

    python tests/fuzzing/campaign.py --seconds 600
    python tests/fuzzing/campaign.py --count 1000000 --kind recording --seed 7

A fault is printed with what repeats it, and its file is kept in the folder of `--keep`.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random, SystemRandom
from zlib import crc32

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzzing.targets import TARGETS, MessageError, Target

AT_ONCE = 50  # inputs of one target before the next one's turn
MOST_FAULTS = 10  # printed of each target
SLOW_SECONDS = 1.0  # of the processor, for one input of a kilobyte


class Campaign:
    """Counts by target: `tried`, `taken`, silent `differences`, `tracebacks`, bad `messages`, `slow`."""

    def __init__(self, targets: list[Target], seed: int, keep: Path | None) -> None:
        self.targets, self.keep = targets, keep
        self.counts = {target.name: Counter[str]() for target in targets}
        # Each target has a stream of its own: what it is given does not depend on which others run.
        for target in targets:  # what is compiled or imported at the first use counts for none of them
            for whole in target.seeds:
                assert target.tried(whole), f"{target.name}: the file is refused undamaged"
        self._random = {target.name: Random(f"{seed} {target.name}") for target in targets}

    def turn(self, target: Target, inputs: int) -> None:
        """Try so many damaged files on one target."""
        random, counts = self._random[target.name], self.counts[target.name]
        start = last = time.thread_time()
        for _ in range(inputs):
            whole = target.seeds[random.randrange(len(target.seeds))]
            content = target.damage(whole, random)
            try:
                counts["taken"] += target.tried(content)
            except MessageError as error:
                counts["messages"] += 1
                self._report(target, content, f"says: {error}")
            except AssertionError as error:
                counts["differences"] += 1
                self._report(target, content, f"differs: {error}")
            except Exception:
                counts["tracebacks"] += 1
                self._report(target, content, traceback.format_exc(limit=-3))
            counts["tried"] += 1
            now = time.thread_time()
            if now - last > SLOW_SECONDS:
                counts["slow"] += 1
                self._report(target, content, f"took {now - last:.1f} s")
            last = now
        counts["milliseconds"] += round(1000 * (last - start))

    def _report(self, target: Target, content: bytes, what: str) -> None:
        counts = self.counts[target.name]
        if counts["differences"] + counts["tracebacks"] + counts["messages"] + counts["slow"] > MOST_FAULTS:
            return
        print(f"\n{target.name}: {what}\n  input {content[:200]!r} ({len(content)} bytes)")
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            path = self.keep / f"{target.name.replace(' ', '-')}-{crc32(content):08x}"
            path.write_bytes(content)
            print(f"  kept as {path}")

    def run(self, seconds: float, count: int) -> None:
        """Take turns until the time is over, or each kind's share of `count` inputs is tried."""
        end, shares = time.monotonic() + seconds, sum(target.share for target in self.targets)
        while time.monotonic() < end:
            left = [
                t for t in self.targets if not count or self.counts[t.name]["tried"] < count * t.share / shares
            ]
            if not left:
                return
            for target in left:
                self.turn(target, AT_ONCE * target.share)

    def table(self) -> str:
        """Return the figures: a line per target, and a line per kind."""
        columns = ("tried", "taken", "tracebacks", "differences", "messages", "slow")
        lines = [f"{'parser':20}{''.join(f'{name:>13}' for name in (*columns, 'per second'))}"]
        kinds: dict[str, Counter[str]] = {}
        for target in self.targets:
            lines.append(self._line(target.name, self.counts[target.name], columns))
            kinds.setdefault(target.kind, Counter()).update(self.counts[target.name])
        lines += ["", *(self._line(f"all: {kind}", counts, columns) for kind, counts in kinds.items())]
        return "\n".join(lines)

    @staticmethod
    def _line(name: str, counts: Counter[str], columns: tuple[str, ...]) -> str:
        speed = counts["tried"] / max(counts["milliseconds"], 1) * 1000
        return f"{name:20}{''.join(f'{counts[column]:13,}' for column in columns)}{speed:13,.0f}"

    @property
    def faults(self) -> int:
        return sum(c["differences"] + c["tracebacks"] + c["messages"] + c["slow"] for c in self.counts.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="at most so long")
    parser.add_argument("--count", type=int, default=0, help="inputs in all; 0: as many as the time allows")
    parser.add_argument("--kind", action="append", help="only targets of this kind, or of this name")
    parser.add_argument("--seed", type=int, help="repeat a campaign; else a random one, which is printed")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="folder of inputs at fault")
    given = parser.parse_args()
    seed = SystemRandom().getrandbits(32) if given.seed is None else given.seed
    targets = [t for t in TARGETS if not given.kind or t.kind in given.kind or t.name in given.kind]
    print(f"seed {seed}, {len(targets)} parsers", flush=True)
    campaign = Campaign(targets, seed, given.keep)
    campaign.run(given.seconds, given.count)
    print(campaign.table())
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    sys.exit(main())
