"""Writing synthetic recordings into a folder."""

import pytest

from skelpipe.errors import SkelpipeError
from skelpipe.synth.options import SynthOptions
from skelpipe.synth.plan import plan_dataset
from skelpipe.synth.store import write_recordings


def test_a_failed_write_leaves_no_partial_file(tmp_path, monkeypatch):
    done = []

    def full_disk(source, target):
        if len(done) == 4:
            raise OSError(28, "No space left on device")
        done.append(target)
        source.rename(target)

    monkeypatch.setattr("os.replace", full_disk)
    written = write_recordings(tmp_path, plan_dataset(SynthOptions("ntu60", frames=8), 2, 2, 1).jobs)
    with pytest.raises(SkelpipeError, match="the disk is full"):
        list(written)
    assert len(list(tmp_path.iterdir())) == 4
    assert all(path.suffix == ".skeleton" for path in tmp_path.iterdir())
