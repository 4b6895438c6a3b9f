"""Write stand-ins for files that readers of a page have and this repository does not, into the folder of now.

python stand_ins.py released    two files of AimCLR's authors, with their names and shapes and drawn weights
python stand_ins.py own         the recordings and the manifest of docs/own-dataset.md
python stand_ins.py frames      what a pose program writes: a line of JSON per frame
python stand_ins.py shards      WebDataset shards as others write them
python stand_ins.py tiny        recordings and manifest of the example of a plug-in
"""

import importlib.util
import io
import json
import re
import sys
import tarfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DRAWN = np.random.default_rng(0)


def released() -> None:
    import torch
    from torch import nn

    spec = importlib.util.spec_from_file_location(
        "plain_checkpoints", ROOT / "tests/models/released/test_checkpoint.py"
    )
    assert spec is not None
    assert spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    linear = plain.only(plain.Plain(plain.capped(), 4, nn.Conv2d(32, 60, 1)))
    plain.saved(Path("aimclr_ntu60_xview_joint_linear.pt"), linear)
    model = plain.pair(plain.Plain(plain.capped(), 4, plain.mlp()))
    model.register_buffer("queue", nn.functional.normalize(torch.randn(12, 64), dim=0))
    plain.saved(Path("aimclr_epoch100.pt"), model)


def own() -> None:
    page = (ROOT / "docs/own-dataset.md").read_text(encoding="utf-8")
    blocks = dict(reversed(re.findall(r"^```(python|yaml)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)))
    Path("gym.yaml").write_text(blocks["yaml"], encoding="utf-8")
    exec(blocks["python"], {})


def frames() -> None:
    body = DRAWN.normal(size=(25, 3)) * 0.4
    walked = body + DRAWN.normal(size=(100, 25, 3)).cumsum(0) * 0.02
    lines = [json.dumps({"bodies": [frame.round(3).tolist()], "ids": [1]}) for frame in walked]
    Path("frames.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def shards() -> None:
    for name, mode in [(f"foo-{n}.tar", "w") for n in range(4)] + [("foo-test.tar.gz", "w:gz")]:
        with tarfile.open(name, mode) as shard:  # type: ignore[call-overload]
            for n in range(6):
                clip = io.BytesIO()
                np.save(clip, DRAWN.normal(size=(20, 1, 25, 3)).cumsum(0).astype(np.float32))
                for end, content in (("npy", clip.getvalue()), ("cls", str(n % 3).encode())):
                    member = tarfile.TarInfo(f"{name[:5]}-{n}.{end}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))


def tiny() -> None:
    Path("raw").mkdir()
    for who in ("ada", "bob", "eve"):
        for what in ("wave", "kick"):
            for n in range(3):
                steps = DRAWN.normal(size=(20, 15)).cumsum(0) * 0.05
                np.savetxt(f"raw/{who}-{what}-{n}.txt", steps, fmt="%.4f")
    Path("tiny.yaml").write_text(
        "name: tiny\ntitle: Five joints\nreader: tiny-text\nlayout: tiny-5\nbodies: 1\nsuffix: .txt\n"
        "name_pattern: (?P<subject>[a-z]+)-(?P<action>[a-z]+)-(?P<replication>\\d+)\nclasses: [wave, kick]\n"
        "splits: {xsub: {field: subject, train: [ada, bob]}}\nterms: none\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    for each in sys.argv[1:]:
        globals()[each]()
