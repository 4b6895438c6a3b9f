"""`prepare` looks at the bodies of a sample of recordings."""

import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from skelpipe.cli import main as skelpipe
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, survey
from skelpipe.prepare.plausibility import RECORDINGS, implausible_bodies
from skelpipe.raw.readers import RecordingReader
from skelpipe.synth.nw_ucla import render_jobs
from skelpipe.synth.nw_ucla_names import plan_takes
from skelpipe.synth.options import SynthOptions

OTHER = {
    "name": "mine",
    "reader": "nw-ucla-json",
    "layout": "msr-action3d-20",
    "name_pattern": r"a(?P<action>\d{2})_s(?P<subject>\d{2})_e(?P<replication>\d{2})_v(?P<camera>\d{2})",
    "suffix": ".json",
    "classes": {1: "one", 2: "two"},
    "splits": {"xview": {"field": "camera", "train": [1, 2]}},
}


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    for job in render_jobs(SynthOptions("nw-ucla", frames=12), plan_takes(2, 2, 1)):
        for name, content in job.render().files.items():
            (tmp_path / "raw" / name).write_bytes(content)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(OTHER))
    return tmp_path


def prepare(folder, dataset, *words):
    options = ["--dataset", dataset, "--split", "xview", "--raw", folder / "raw", "--out", folder / "ds"]
    return CliRunner().invoke(skelpipe, ["prepare", *map(str, options), "--frames", "8", "--workers", "1", *words])


def test_prepare_warns_of_another_layout_and_of_nothing_else(raw) -> None:
    result = prepare(raw, str(raw / "mine.yaml"))
    assert result.exit_code == 0, result.output
    assert "Warning: bodies do not look like bodies: left and right are unlike" in result.stderr
    assert "write `layout: kinect-v1-20` in the manifest" in result.stderr
    result = prepare(raw, "nw-ucla", "--overwrite", "--json")
    assert json.loads(result.stdout)["implausible"] == []


def test_few_recordings_are_read_and_damaged_ones_left_out(raw, monkeypatch) -> None:
    """However many there are; they are spread over all of them."""
    manifest = load_manifest("nw-ucla")
    samples = survey(manifest, [raw / "raw"], Options("xview", bodies=1)).samples
    (raw / "raw" / f"{samples[0].id}.json").write_bytes(b"{")
    read = []

    def counted(self, file, found=RecordingReader.read):
        read.append(file.path)
        return found(self, file)

    monkeypatch.setattr(RecordingReader, "read", counted)
    assert implausible_bodies(manifest, samples) == []
    assert len(read) == len(samples) == 12
    read.clear()
    monkeypatch.setattr("skelpipe.prepare.plausibility.RECORDINGS", 4)
    assert implausible_bodies(manifest, samples) == []
    paths = [sample.file.path for sample in samples]
    assert [paths.index(path) for path in read] == np.arange(0, 12, 3).tolist()
    assert RECORDINGS <= 32
