"""The names of layouts in checkpoints and exports, old and new."""

import pytest

from skelpipe.train.running.provenance import ClipFacts

OLD = {"dataset": "msr-xsub", "digest": "0", "profile": "crosclr", "frames": "50", "persons": "1"}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("kinect-v1-20", "msr-action3d-20"),  # all that version 0.2 could mean by it
        ("kinect-v1-20-sdk", "kinect-v1-20"),
        ("kinect-v2-25", "kinect-v2-25"),
        ("gym", "gym"),
    ],
)
def test_what_files_call_a_layout_is_read_as_what_it_is(written, read) -> None:
    facts = ClipFacts.from_texts({**OLD, "layout": written})
    assert facts.layout == read
    assert facts.texts()["layout"] == written
    assert ClipFacts.from_texts(facts.texts()) == facts
