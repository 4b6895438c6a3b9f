"""`prepare` needs bounded memory for any number of recordings."""

import json
import os
import subprocess
import sys
from itertools import islice

from skelpipe.manifest_file import load_manifest

RECORDINGS = 5000
MOST_MB = 400

# ru_maxrss of children is that of the largest one, a worker. ru_maxrss of the process itself would include the
# memory of the test process that started it; the high-water mark VmHWM does not.
MEASURED = """
import json, resource, sys
from skelpipe.cli import main
if __name__ == "__main__":
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    peaks = [int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM:")]
    peaks.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
    print(json.dumps(peaks), file=sys.stderr)
"""


def test_peak_memory_of_5000_recordings(raw_folder, ntu_names, tmp_path) -> None:
    """Many names are links to a few recordings of a real size (300 kB)."""
    sources = [
        raw_folder(ntu_names()[:4], "sources", frames=90, bodies=1) / f"{name}.skeleton"
        for name in ntu_names()[:4]
    ]
    (tmp_path / "raw").mkdir()
    for number, (name, _) in enumerate(islice(load_manifest("ntu60").expected(), RECORDINGS)):
        os.link(sources[number % 4], tmp_path / "raw" / f"{name}.skeleton")
    script = tmp_path / "measured.py"
    script.write_text(MEASURED)
    command = ["prepare", "--dataset", "ntu60", "--split", "xsub", "--workers", "2", "--json"]
    command += ["--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "ds")]
    done = subprocess.run([sys.executable, str(script), *command], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["train"] + report["test"] == RECORDINGS
    parent, worker = json.loads(done.stderr.splitlines()[-1])
    assert 50 < parent <= MOST_MB
    assert 50 < worker <= MOST_MB
