"""The README.md of a dataset, with front matter for the Hugging Face hub and its library `datasets`."""

from collections.abc import Mapping
from typing import Any

import yaml

from skelpipe.door.visible import visible
from skelpipe.manifest import SUBSETS, Manifest
from skelpipe.views import VIEWS

__all__ = ["dataset_readme"]


def dataset_readme(manifest: Manifest, card: Mapping[str, Any]) -> str:
    """Return the text: what the dataset is, how it was prepared, how to read it, and the terms of its source."""
    subsets = {subset: card["splits"][subset] for subset in SUBSETS if card["splits"][subset]["samples"]}
    front: dict[str, Any] = {
        "pretty_name": f"{manifest.title}, {card['split']}",
        "task_categories": ["other"],
        "tags": ["skeleton", "action-recognition", *(["webdataset"] if "shards" in card["formats"] else [])],
    }
    if "shards" in card["formats"]:
        front["configs"] = [
            {
                "config_name": view,
                "data_files": [{"split": subset, "path": f"{subset}/{view}/*.tar"} for subset in subsets],
                **({"default": True} if view == "joint" else {}),
            }
            for view in VIEWS
        ]
    counts = "\n".join(
        f"| {subset} | {facts['samples']:,} | {len(facts['shards'])} |" for subset, facts in subsets.items()
    )
    channels, frames, joints, bodies = card["shape"]
    scores = " and a score" if "score" in card["channels"] else ""
    absent = card["anchors"].get("absent")
    anchors = "`anchors/` holds the mean training clip of each view"
    if absent:
        anchors = f"there is no anchor, since {absent}"
    source = f"of {manifest.homepage} " if manifest.homepage else ""
    note = f"\nThe class names are {manifest.classes_note}.\n" if manifest.classes_note else ""
    title = visible(manifest.title)
    text = f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---
# {title}, split {visible(card["split"])}

Skeleton clips {source}as arrays `[C,T,V,M]` = [{channels},{frames},{joints},{bodies}]
{card["dtype"]}: x, y, z in {card["units"]}{scores}, {frames} frames, {joints} joints ({manifest.layout.name}),
{bodies} bodies.

| subset | clips | shards |
|---|---|---|
{counts}

Prepared by skelpipe with preprocessing profile `{card["profile"]["name"]}` version {card["profile"]["version"]};
digest `{card["digest"]}`.
{note}
{"".join(_READING[name] for name in _READING if name in card["formats"] or name in card)}
`samples.parquet` has one row per recording or clip, dropped ones with their reason; {anchors};
`dataset.json` is the card with class names, skeleton layout and the sha256 of every data file.

## Terms of the source
{manifest.terms}
"""
    return visible(text, lines=True)


_READING = {
    "shards": """Each shard `SUBSET/VIEW/NNNNNN.tar` is a WebDataset of `ID.cls` (label, from 0) and `ID.VIEW.npy`:

```python
import webdataset
for sample in webdataset.WebDataset("train/joint/000000.tar", shardshuffle=False).decode():
    print(sample["__key__"], sample["cls"], sample["joint.npy"].shape)

import datasets  # Hugging Face; this folder's path, and the view
bones = datasets.load_dataset(".", "bone")
```
""",
    "hdf5": """`train.h5` and `test.h5` hold the root datasets `id`, `label` (from 0), `joint`, `bone` and `motion`
in one order:

```python
import h5py
with h5py.File("train.h5") as file:
    print(file["id"][0], file["label"][0], file["joint"].shape)
```
""",
    "untrimmed": """`untrimmed/SUBSET/NNNNNN.tar` hold whole videos, `ID.joint.npy` (raw joints `[C,F,V,M]`) and
`ID.label.npy` (one class per frame, from 1; 0 is background).
""",
}
