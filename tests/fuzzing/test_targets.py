"""Every parser with damaged files, some of them drawn anew by hypothesis, which shrinks what it finds.

`make fuzz` runs the same targets for ten minutes; tests/fuzzing/campaign.py says how to repeat what it finds.
"""

import pytest
from fuzzing.campaign import Campaign
from fuzzing.edits import damaged, edits
from fuzzing.targets import TARGETS, MessageError, Target
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.errors import RawError

PORTION = 120  # inputs of each target; shares count
ANEW = 30  # by hypothesis


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_damaged_file_is_refused_in_a_line_or_read_as_others_read_it(target, tmp_path) -> None:
    campaign = Campaign([target], seed=1, keep=tmp_path)
    campaign.turn(target, PORTION)
    counts = campaign.counts[target.name]
    assert campaign.faults == 0, campaign.table()
    assert counts["tried"] == PORTION
    assert 0 < counts["taken"] < PORTION


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hypothesis_finds_no_fault_either(target) -> None:
    @given(st.sampled_from(target.seeds), edits)
    @settings(max_examples=ANEW)
    def one(whole, drawn) -> None:
        target.tried(damaged(whole, drawn))

    one()


def broken(content: bytes) -> None:
    """A parser with one fault of each kind."""
    if b"\0" in content:
        raise IndexError("a traceback")
    if b"9" * 400 in content:
        raise RawError("f: " + "9" * 9000)
    if not content.startswith(b"1 2 3"):
        raise AssertionError("a silent difference")


def test_a_campaign_counts_each_kind_of_fault(tmp_path, capsys) -> None:
    """And is repeated by its seed; what is at fault is kept as a file."""
    target = Target("broken", "recording", (b"1 2 3\n" * 9,), broken)
    counts = []
    for _ in range(2):
        campaign = Campaign([target], seed=3, keep=tmp_path)
        campaign.run(60, 400)
        counts.append(
            {key: campaign.counts["broken"][key] for key in ("tried", "tracebacks", "differences", "messages")}
        )
    assert counts[0] == counts[1]
    assert counts[0].pop("tried") == 400
    assert min(counts[0].values()) > 0
    assert campaign.faults == sum(counts[0].values())
    kept = list(tmp_path.glob("broken-*"))
    assert kept
    for path in kept:
        with pytest.raises((IndexError, MessageError, AssertionError)):
            target.tried(path.read_bytes())
    assert "broken" in capsys.readouterr().out
