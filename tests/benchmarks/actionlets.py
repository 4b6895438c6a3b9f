"""Actionlets of a trained network by threshold: how much they mark, what moves in them, how well two views agree.

    python tests/benchmarks/actionlets.py --shards data/nw-ucla --checkpoint runs/actclr

Prints the table of docs/actionlets.md, a line per rule: the share of joints and frames marked; the mean
chance, over clips, that a marked joint moves more than an unmarked one (0.5: no relation), by its speed over
the four frames of a step; the overlap (intersection over union) of the actionlet of an augmented clip with
that of the clip as read, carried along, and with that of another clip; and what a key pooled over the
actionlet tells: of the 20 nearest keys, how many are of the same class.
"""

from collections.abc import Iterator
from dataclasses import replace

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.chain import chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.mats import carried
from skelpipe.dataset import Dataset
from skelpipe.models.actionlets import Actionlets
from skelpipe.models.pooling import safp
from skelpipe.train.running.trained_actionlet import TrainedActionlet, trained_actionlet
from skelpipe.views import motion

THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
NEIGHBOURS = 20


def rules(find: TrainedActionlet) -> Iterator[tuple[str, Actionlets]]:
    layout = find.regions.layout
    for inner in (False, True):
        for threshold in THRESHOLDS:
            name = f"{threshold:g}{', sigma inside eq. 4' * inner}"
            yield name, Actionlets(layout, threshold=threshold, inner=inner)
    yield "0, sign plus", Actionlets(layout, threshold=0.0, sign="plus")
    yield "soft", Actionlets(layout, soft=True)
    yield "as released", Actionlets(layout, "released")


def chance_of_more(speed: Tensor, mask: Tensor) -> float:
    """Return, over clips, the mean chance that a marked entry [N,P] has more speed than an unmarked one."""
    chances = []
    for values, marked in zip(speed, mask > 0.5, strict=True):
        inside, outside = int(marked.sum()), int((~marked).sum())
        if inside and outside:
            ranks = values.argsort().argsort().double() + 1
            chances.append((float(ranks[marked].sum()) - inside * (inside + 1) / 2) / (inside * outside))
    return float(np.mean(chances)) if chances else float("nan")


def overlap(one: Tensor, other: Tensor) -> float:
    one, other = (each.flatten(1) > 0.5 for each in (one, other))
    return float(((one & other).sum(1) / (one | other).sum(1).clamp(min=1)).mean())


def same_class(keys: Tensor, labels: Tensor) -> float:
    keys = F.normalize(keys, dim=1)
    likeness = keys @ keys.T - 2 * torch.eye(len(keys))
    near = likeness.topk(min(NEIGHBOURS, len(keys) - 1)).indices
    return float((labels[near] == labels[:, None]).double().mean())


@torch.no_grad()
def table(clips: Tensor, labels: Tensor, find: TrainedActionlet) -> Iterator[list[str]]:
    n, _, frames, _, bodies = clips.shape
    steps = find(clips[:2]).shape[1]
    present = clips.abs().sum(1) > 0
    speed = motion(clips).norm(dim=1)  # [N,T,V,M]
    speed = F.adaptive_avg_pool1d(speed.movedim(1, 3).flatten(0, 2)[:, None], steps)
    speed = speed.view(n, -1, bodies, steps).permute(0, 3, 1, 2)
    op = chain("actclr-actionlet", layout=find.regions.layout)
    drawn = op.sample(Draws(0, 0, torch.arange(n)), clips.shape)
    moved = op.apply(clips, drawn)
    encoder, head = find.networks.encoder, find.networks.head
    features = encoder.features(clips).unflatten(0, (n, bodies))
    for name, regions in rules(find):
        own = replace(find, regions=regions)
        mask, again = own(clips), own(moved)
        wide, seen = (to_frames(each.movedim(3, 1), frames).movedim(1, 3) for each in (mask, again))
        right = carried(wide, op, drawn)
        share = float(wide[present].mean())
        keys = head(safp(features, mask.movedim(3, 1)).mean(1))
        yield [
            name,
            f"{100 * share:.0f} %",
            f"{chance_of_more(speed.flatten(1), mask.flatten(1)):.2f}",
            f"{overlap(seen, right):.2f}",
            f"{overlap(seen, right.roll(1, 0)):.2f}",
            f"{same_class(keys, labels):.2f}",
        ]
    keys = head(encoder.pool(features.flatten(0, 1), bodies))
    yield ["everything (GAP)", "100 %", "", "", "", f"{same_class(keys, labels):.2f}"]


@click.command()
@click.option("--shards", required=True)
@click.option("--checkpoint", required=True)
@click.option("--subset", default="test", show_default=True)
def main(shards: str, checkpoint: str, subset: str) -> None:
    dataset = Dataset.open(shards)
    find = trained_actionlet(checkpoint, dataset, "joint")
    clips = torch.from_numpy(dataset.reader(subset, "joint").gather(np.arange(dataset.count(subset))))
    labels = torch.from_numpy(np.asarray(dataset.stored_labels(subset), dtype=np.int64))
    click.echo("| rule | marked | moves more | overlap, own | overlap, other's | same class |")
    click.echo(6 * "|---" + "|")
    for row in table(clips, labels, find):
        click.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
