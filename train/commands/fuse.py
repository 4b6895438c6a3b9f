"""The work of `train/fuse.py`, where it is described, once the options are checked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.door.visible import visible_lines
from skelpipe.errors import UsageError
from skelpipe.front.descriptions import counted
from skelpipe.train.evaluation.fusion import (
    Weights,
    align,
    equal_weights,
    find_dataset,
    fuse,
    fused_view,
    named_weights,
    papers_weights,
    parse_weights,
)
from skelpipe.train.evaluation.metrics import confusion, topk_accuracy
from skelpipe.train.evaluation.outcome import SCORES, SETTINGS, Scores, open_folder, read_scores, write_outcome
from skelpipe.train.evaluation.segmentation_metrics import segmentation_figures
from skelpipe.train.papers.references import Reference
from skelpipe.train.papers.reported import PUBLISHED, REFERENCE, reported, reported_text
from skelpipe.train.recipes.reader import builtin_recipes
from skelpipe.train.reporting.logged import log_outcome
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.run_log import Console
from skelpipe.yaml_reader import read_yaml

__all__ = ["run"]

SEGMENT = "segment"  # the protocol whose samples are frames


def read_streams(sources: Sequence[str], console: Console) -> list[Scores]:
    """Read the scores in folders or files, joined by sample id; see `align` for the errors."""
    paths = [Path(source) / SCORES if Path(source).is_dir() else Path(source) for source in sources]
    for number, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise UsageError(f"{path} is given twice: it would be fused with itself")
    streams = align([read_scores(path) for path in paths], [str(path) for path in paths])
    if len(protocols := _protocols(streams)) > 1:
        console.say(f"scores of {' and '.join(protocols)} are fused: their scales may differ")
    return streams


def _protocols(streams: Sequence[Scores]) -> list[str]:
    return list(dict.fromkeys(one for stream in streams for one in stream.about["protocol"].split("+")))


def stream_names(sources: Sequence[str], streams: Sequence[Scores]) -> list[str]:
    """Return a name for each stream: its view and, where a view comes twice, its protocol, or else its source."""
    views = [stream.about["view"] for stream in streams]
    if len(set(views)) == len(views):
        return views
    both = [f"{view} ({stream.about['protocol']})" for view, stream in zip(views, streams, strict=True)]
    if len(set(both)) == len(both):
        return both
    return [f"{view} ({source})" for view, source in zip(views, sources, strict=True)]


def figures(protocol: str, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the protocol's figures of scores [N,K]: those of a segmentation, or top1 and top5."""
    if protocol == SEGMENT:
        return segmentation_figures(confusion(labels, scores.argmax(axis=1), scores.shape[1]))
    return {f"top{k}": topk_accuracy(scores, labels, k) for k in (1, 5)}


def evaluate(
    sources: Sequence[str],
    streams: Sequence[Scores],
    given: str | None,
    method: str | None,
    dataset: Dataset | None = None,
) -> tuple[Scores, dict[str, Any]]:
    """Fuse aligned streams by all weights; return the scores by the chosen ones, and what --json prints.

    `method` is the one whose networks gave all scores, if there is one; `dataset` theirs, where it was found.
    """
    about = streams[0].about
    views = [stream.about["view"] for stream in streams]
    protocol = "+".join(_protocols(streams))
    one_protocol = protocol == about["protocol"]
    sets = papers_weights(about["dataset"], views) if one_protocol else [equal_weights(len(views))]
    if given is not None:
        sets = [parse_weights(given, views), *sets]
    chosen = sets[0] if given is not None else named_weights(sets, method)
    tried, labels = [], streams[0].labels
    for weights in sets:
        fused = fuse(streams, weights.values)
        tried.append(_entry(weights, figures(protocol, fused, labels), weights is chosen))
        if weights is chosen:
            summed = fused
    view = fused_view(views)
    what = " + ".join(dict.fromkeys(stream.about["what"] for stream in streams))
    held = _held(streams, view)
    kept = {key: value for key, value in about.items() if key != REFERENCE}
    kept |= {"protocol": protocol, "view": view, "what": what}
    scores = replace(streams[0], scores=summed, about=kept | ({REFERENCE: held.text()} if held else {}))
    result = {
        "protocol": protocol,
        "what": what,
        "dataset": about["dataset"],
        "digest": about["digest"],
        "split": about["split"],
        "view": view,
        "clips": {about["split"]: len(labels)},
        "streams": [
            {
                "scores": source,
                "name": name,
                "view": stream.about["view"],
                "protocol": stream.about["protocol"],
                "what": stream.about["what"],
                "figures": figures(protocol, stream.scores, labels),
            }
            for source, name, stream in zip(sources, stream_names(sources, streams), streams, strict=True)
        ],
        "fusions": tried,
        "weights": list(chosen.values),
        "figures": next(entry["figures"] for entry in tried if entry["counts"]),
        "reported": reported(held, dataset or json.loads(about.get(PUBLISHED, "{}")), (_whose(chosen),)),
    }
    return scores, result


def _whose(weights: Weights) -> str:
    """Say which weights the streams are fused with here, and whose they are."""
    return f"fused here with {':'.join(f'{value:g}' for value in weights.values)} of {weights.source}"


def _entry(weights: Weights, found: Mapping[str, float], counts: bool) -> dict[str, Any]:
    return {
        "name": weights.name,
        "source": weights.source,
        "weights": list(weights.values),
        "figures": dict(found),
        "counts": counts,
    }


def common_method(streams: Sequence[Scores]) -> str | None:
    """Return the method whose networks gave all scores, where all descriptions begin with the same one."""
    words = {stream.about["what"].partition(",")[0].partition(" ")[0] for stream in streams}
    word = words.pop()
    return word if not words and word in builtin_recipes() else None


def _held(streams: Sequence[Scores], view: str) -> Reference | None:
    """Return the entry of the papers' tables for the fusion, if its streams' entries differ in the view only."""
    texts = [stream.about.get(REFERENCE) for stream in streams]
    entries = {Reference.of_text(text).with_stream(view).text() for text in texts if text is not None}
    return Reference.of_text(entries.pop()) if len(entries) == 1 and None not in texts else None


def _augmentation(sources: Sequence[str]) -> dict[str, Any]:
    """Return the `augment` section of the recipes of all streams, where it is the same in all."""
    found = []
    for source in sources:
        recipe = Path(source) / SETTINGS
        settings = read_yaml(recipe) if recipe.is_file() else {}
        found.append(settings.get("augment") if isinstance(settings, dict) else None)
    return {"augment": found[0]} if found[0] and all(each == found[0] for each in found) else {}


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the result as lines for people."""
    subset = result["split"]
    names = list(result["figures"])
    width = max(len(_label(entry)) for entry in (*result["streams"], *result["fusions"])) + 2
    protocol = result["protocol"].replace("+", " and ")
    head = f"{protocol} scores of {counted(result['clips'][subset], f'{subset} sample')} of {result['dataset']}, %"
    text = [head, " " * (width + 2) + "".join(f"{name:>8}" for name in names)]
    for entry in (*result["streams"], *result["fusions"]):
        row = "".join(f"{entry['figures'][name]:8.2f}" for name in names)
        note = f"  {entry['source']}" if "source" in entry else ""
        text.append(f"{'*' if entry.get('counts') else ' '} {_label(entry):{width}}{row}{note}")
    names_of = ":".join(entry["name"] for entry in result["streams"])
    text.append(f"weights are {names_of}; * marks the result")
    said = ((name, reported_text(result, name).strip()) for name in names)
    text += [f"{name} of {result['view']} {words}" for name, words in said if words]
    return [*text, f"written to {result['run']}"]


def _label(entry: Mapping[str, Any]) -> str:
    return ":".join(f"{value:g}" for value in entry["weights"]) if "weights" in entry else str(entry["name"])


def default_folder(result: Mapping[str, Any], method: str | None) -> Path:
    """Return `runs/PROTOCOL-DATASET-VIEW-NAME`."""
    return Path("runs") / f"{result['protocol']}-{result['dataset']}-{result['view']}-{method or 'fused'}"


def run(
    sources: tuple[str, ...],
    given: str | None,
    out: Path | None,
    overwrite: bool,
    shards: str | None,
    cache: Path | None,
    cache_size: int | None,
    as_json: bool,
) -> None:
    """Do what the command asks for."""
    console = Console()
    streams = read_streams(sources, console)
    method = common_method(streams)
    dataset = find_dataset(shards, streams[0].about["digest"], cache, cache_size)
    scores, result = evaluate(sources, streams, given, method, dataset)
    folder = out or default_folder(result, method)
    result["run"] = str(folder)
    open_folder(folder, overwrite=overwrite)
    used = {"streams": list(sources), "weights": result["weights"]} | _augmentation(sources)
    write_outcome(folder, scores, result, settings=used)
    write_report(folder, dataset)
    log_outcome(folder)
    click.echo(json.dumps(result) if as_json else visible_lines(lines(result)))
