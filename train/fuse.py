"""Fuse the scores of several streams, joined by sample id, and judge the sum.

    python train/fuse.py runs/linear-ntu60-xsub-joint runs/linear-ntu60-xsub-bone runs/linear-ntu60-xsub-motion
    python train/fuse.py joint/scores.parquet motion/scores.parquet --weights joint=0.6,motion=0.4
    python train/fuse.py runs/a runs/b runs/c runs/d --weights 1,1,0.5,0.5 --json

An installed skelpipe needs no checkout: `python -m skelpipe.train.fuse ...`.

Spec D8: raw scores times the stream's weight, added up. The weights of the papers are tried side by side; those of
--weights, else AimCLR's (for SkeleMixCLR its own, equal ones), are what is written and counts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from skelpipe.cli.options import errors_as_messages, json_option
from skelpipe.errors import UsageError
from skelpipe.train.fusion import Weights, align, fuse, fused_view, named_weights, papers_weights, parse_weights
from skelpipe.train.metrics import confusion, topk_accuracy
from skelpipe.train.options import overwrite_option
from skelpipe.train.outcome import SCORES, Scores, claim_folder, read_scores, write_outcome
from skelpipe.train.recipe import builtin_recipes, load_recipe
from skelpipe.train.runlog import Console
from skelpipe.train.segmentation import segmentation_figures

__all__ = ["main"]

SEGMENT = "segment"  # the protocol whose samples are frames


def read_streams(sources: Sequence[str], console: Console) -> list[Scores]:
    """Read the scores in folders or files, joined by sample id; see `align` for what is refused."""
    paths = [Path(source) / SCORES if Path(source).is_dir() else Path(source) for source in sources]
    for place, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:place]]:
            raise UsageError(f"{path} is given twice: it would be fused with itself")
    streams = align([read_scores(path) for path in paths], [str(path) for path in paths])
    protocols = list(dict.fromkeys(stream.about["protocol"] for stream in streams))
    if len(protocols) > 1:
        console.say(f"scores of {' and '.join(protocols)} are fused: their scales may differ")
    return streams


def figures(protocol: str, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the protocol's figures of scores [N,K]: those of a segmentation, or top1 and top5."""
    if protocol == SEGMENT:
        return segmentation_figures(confusion(labels, scores.argmax(axis=1), scores.shape[1]))
    return {f"top{k}": topk_accuracy(scores, labels, k) for k in (1, 5)}


def judge(
    sources: Sequence[str], streams: Sequence[Scores], given: str | None, method: str | None
) -> tuple[Scores, dict[str, Any]]:
    """Fuse aligned streams by all weights; return the scores that count, and what --json prints.

    `method` is the one whose networks made all of them, if there is one.
    """
    about = streams[0].about
    views = [stream.about["view"] for stream in streams]
    sets = papers_weights(about["dataset"], views)
    if given is not None:
        sets = [parse_weights(given, views), *sets]
    chosen = sets[0] if given is not None else named_weights(sets, method)
    tried, labels = [], streams[0].labels
    for weights in sets:
        fused = fuse(streams, weights.values)
        tried.append(_entry(weights, figures(about["protocol"], fused, labels), weights is chosen))
        if weights is chosen:
            counted = fused
    view = fused_view(views)
    what = " + ".join(dict.fromkeys(stream.about["what"] for stream in streams))
    scores = replace(streams[0], scores=counted, about={**about, "view": view, "what": what})
    result = {
        "protocol": about["protocol"],
        "what": what,
        "dataset": about["dataset"],
        "digest": about["digest"],
        "split": about["split"],
        "view": view,
        "clips": {about["split"]: len(labels)},
        "streams": [
            {
                "scores": source,
                "view": stream.about["view"],
                "what": stream.about["what"],
                "figures": figures(about["protocol"], stream.scores, labels),
            }
            for source, stream in zip(sources, streams, strict=True)
        ],
        "fusions": tried,
        "weights": list(chosen.values),
        "figures": next(entry["figures"] for entry in tried if entry["counts"]),
        "reported": _reported(method, about["protocol"], view, about["dataset"]),
    }
    return scores, result


def _entry(weights: Weights, found: Mapping[str, float], counts: bool) -> dict[str, Any]:
    return {
        "name": weights.name,
        "source": weights.source,
        "weights": list(weights.values),
        "figures": dict(found),
        "counts": counts,
    }


def common_method(streams: Sequence[Scores]) -> str | None:
    """Return the method whose networks made all the scores, where their descriptions begin with one."""
    words = {stream.about["what"].partition(",")[0].partition(" ")[0] for stream in streams}
    word = words.pop()
    return word if not words and word in builtin_recipes() else None


def _reported(method: str | None, protocol: str, view: str, dataset: str) -> dict[str, Any] | None:
    found = load_recipe(method).figure(protocol, view, dataset) if method else None
    return None if found is None else {"top1": found[0], "source": found[1]}


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the result as lines for people."""
    split = result["split"]
    names = list(result["figures"])
    width = max(len(_label(entry)) for entry in (*result["streams"], *result["fusions"])) + 2
    head = f"{result['protocol']} scores of {result['clips'][split]:,} {split} samples of {result['dataset']}, %"
    text = [head, " " * (width + 2) + "".join(f"{name:>8}" for name in names)]
    for entry in (*result["streams"], *result["fusions"]):
        row = "".join(f"{entry['figures'][name]:8.2f}" for name in names)
        note = f"  {entry['source']}" if "source" in entry else ""
        text.append(f"{'*' if entry.get('counts') else ' '} {_label(entry):{width}}{row}{note}")
    views = ":".join(entry["view"] for entry in result["streams"])
    text.append(f"weights are {views}; * is the one that counts")
    if reported := result["reported"]:
        text.append(f"reported for {result['view']}: {reported['top1']:.1f} % ({reported['source']})")
    return [*text, f"written to {result['run']}"]


def _label(entry: Mapping[str, Any]) -> str:
    return ":".join(f"{value:g}" for value in entry["weights"]) if "weights" in entry else str(entry["view"])


def default_folder(result: Mapping[str, Any], method: str | None) -> Path:
    """Return `runs/PROTOCOL-DATASET-VIEW-NAME`."""
    return Path("runs") / f"{result['protocol']}-{result['dataset']}-{result['view']}-{method or 'fused'}"


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: python train/fuse.py runs/joint runs/motion --weights joint=0.6,motion=0.4",
)
@click.argument("sources", nargs=-1, required=True, metavar="RUN|SCORES...")
@click.option(
    "--weights", "given", metavar="LIST", help="VIEW=WEIGHT,..., or weights in the order of the streams."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: runs/PROTOCOL-DATASET-3s-NAME].")
@overwrite_option
@json_option
@errors_as_messages
def main(sources: tuple[str, ...], given: str | None, out: Path | None, overwrite: bool, as_json: bool) -> None:
    """Fuse the scores that evaluations of several streams wrote."""
    if len(sources) < 2:
        raise UsageError("name the folders or scores.parquet files of at least two streams")
    console = Console()
    streams = read_streams(sources, console)
    method = common_method(streams)
    scores, result = judge(sources, streams, given, method)
    folder = out or default_folder(result, method)
    result["run"] = str(folder)
    claim_folder(folder, overwrite=overwrite)
    used = {"streams": list(sources), "weights": result["weights"]}
    write_outcome(folder, scores, result, settings=used)
    click.echo(json.dumps(result) if as_json else "\n".join(lines(result)))


if __name__ == "__main__":
    main()
