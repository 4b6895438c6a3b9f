"""The README.md of a dataset: for people, and with front matter for the Hugging Face hub and `datasets`."""

from collections.abc import Mapping
from typing import Any

import yaml

from skelpipe.manifest import SIDES, Manifest
from skelpipe.views import VIEWS

__all__ = ["dataset_readme"]


def dataset_readme(manifest: Manifest, card: Mapping[str, Any]) -> str:
    """Return the text: what the dataset is, how it was made, how to read it, and the terms of its source."""
    sides = {side: card["splits"][side] for side in SIDES if card["splits"][side]["samples"]}
    configs = [
        {
            "config_name": view,
            "data_files": [{"split": side, "path": f"{side}/{view}/*.tar"} for side in sides],
            **({"default": True} if view == "joint" else {}),
        }
        for view in VIEWS
    ]
    front = {
        "pretty_name": f"{manifest.title}, {card['split']}",
        "task_categories": ["other"],
        "tags": ["skeleton", "action-recognition", "webdataset"],
        "configs": configs,
    }
    counts = "\n".join(
        f"| {side} | {facts['samples']:,} | {len(facts['shards'])} |" for side, facts in sides.items()
    )
    channels, frames, joints, bodies = card["shape"]
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---
# {manifest.title}, split {card["split"]}

Skeleton clips of {manifest.homepage} as arrays `[C,T,V,M]` = [{channels},{frames},{joints},{bodies}]
{card["dtype"]}: x, y, z in metres, {frames} frames, {joints} joints ({manifest.layout.name}), {bodies} bodies.

| side | clips | shards |
|---|---|---|
{counts}

Made by skelpipe with preprocessing profile `{card["profile"]["name"]}` version {card["profile"]["version"]};
digest `{card["digest"]}`.

Each shard `SIDE/VIEW/NNNNNN.tar` is a WebDataset of `ID.cls` (label, from 0) and `ID.VIEW.npy`:

```python
import webdataset
for sample in webdataset.WebDataset("train/joint/000000.tar", shardshuffle=False).decode():
    print(sample["__key__"], sample["cls"], sample["joint.npy"].shape)
```

`samples.parquet` has a row a recording, dropped ones with their reason; `anchors/` holds the mean training clip
of each view; `dataset.json` is the card with class names, skeleton layout and the sha256 of every data file.

## Terms of the source
{manifest.terms}
"""
