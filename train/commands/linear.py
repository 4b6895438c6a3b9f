"""The work of `train/linear.py`, where it is described, once the options are checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.door.visible import visible_lines
from skelpipe.front.descriptions import counted
from skelpipe.train.evaluation.beginning import Evaluation, EvaluationOptions, begin, check_subsets
from skelpipe.train.evaluation.classifier_file import Origin, export_classifier
from skelpipe.train.evaluation.evaluated_network import choose_network
from skelpipe.train.evaluation.joined_streams import join_streams
from skelpipe.train.evaluation.linear import TrainedClassifier, train_classifier
from skelpipe.train.evaluation.metrics import topk_accuracy
from skelpipe.train.evaluation.outcome import Scores, metadata_of, write_outcome, write_subset_features
from skelpipe.train.papers.references import LINEAR_RECIPES
from skelpipe.train.papers.reported import reference, reference_metadata, reported, reported_text
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import LinearRecipe
from skelpipe.train.reporting.logged import log_outcome
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.ranks import ranks, together
from skelpipe.train.running.run_folder import CLASSIFIER

__all__ = ["one_class", "run"]

PROTOCOL = "linear"
TOP = (1, 5)


@dataclass(frozen=True, kw_only=True)
class LinearOptions(EvaluationOptions):
    """The command line, one field per option; None where the recipe or a default decides."""

    recipe: str | None
    settings: tuple[str, ...]
    epochs: int | None
    batch_size: int | None
    lr: float | None
    balanced: bool
    augment: bool
    save_features: bool
    heads: tuple[str, ...]

    def load(self, method: str | None) -> tuple[str, LinearRecipe]:
        """Return name and recipe, overrides applied; the default is that of the paper of `method`."""
        name = self.recipe or LINEAR_RECIPES.get(method or "", PROTOCOL)
        recipe = load_recipe(name, LinearRecipe)
        recipe = with_overrides(
            recipe,
            self.settings,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            balanced=self.balanced or None,
        )
        return Path(name).stem, recipe


def summary(
    evaluation: Evaluation,
    options: LinearOptions,
    trained: TrainedClassifier,
    name: str,
    recipe: LinearRecipe,
    folder: Path,
) -> dict[str, Any]:
    """Return what --json prints: the figures of the last epoch, and the best of those measured on the way."""
    dataset, network = evaluation.dataset, evaluation.network
    final = {f"top{k}": topk_accuracy(trained.scores, trained.test.labels.numpy(), k) for k in TOP}
    return {
        **evaluation.facts(),
        "trained_on": network.trained_on,
        "augmented": options.augment,
        "recipe": name,
        "seed": options.seed,
        "run": str(folder),
        "epochs": len(trained.log),
        "clips": {subset: dataset.count(subset) for subset in ("train", "test")},
        "figures": {**final, "best_top1": trained.best["top1"]},
        "best_epoch": int(trained.best["epoch"]),
        "chance": 100.0 / len(set(dataset.labels("train").tolist())),
        "frozen": {"tensors": len(trained.weights_hash.hashes), "sha256": trained.weights_hash.digest},
        "reported": reported(reference(dataset, network, PROTOCOL, recipe=recipe), dataset),
    }


def save(
    evaluation: Evaluation,
    options: LinearOptions,
    trained: TrainedClassifier,
    recipe: LinearRecipe,
    result: dict[str, Any],
) -> None:
    """Write the outcome of an evaluation to its folder."""
    dataset, network, folder = evaluation.dataset, evaluation.network, Path(result["run"])
    about = metadata_of(result, dataset.classes, "features", "recipe")
    about |= reference_metadata(reference(dataset, network, PROTOCOL, recipe=recipe), dataset)
    if options.save_features:
        write_subset_features(folder, {"train": trained.train, "test": trained.test}, about)
    scores = Scores(trained.test.ids, trained.test.labels.numpy(), trained.scores, about)
    settings = {
        **recipe.content(),
        "features": network.features,
        **({"heads": list(network.streams)} if network.streams else {}),
        "augmented": options.augment,
        "seed": options.seed,
    }
    if options.augment:
        settings["augment"] = {"name": "normal"}
    if network.architecture is not None and network.features == "h" and not network.streams:
        origin = _origin(evaluation, result, settings)
        export_classifier(folder / CLASSIFIER, network.encoder, trained.layer, origin)
    settings |= network.pretraining()
    write_outcome(folder, scores, result, log=trained.log, settings=settings)
    write_report(folder, dataset)
    log_outcome(folder)


def _origin(evaluation: Evaluation, result: dict[str, Any], settings: dict[str, Any]) -> Origin:
    network = evaluation.network
    return Origin.of(
        evaluation.dataset,
        protocol=PROTOCOL,
        what=network.name,
        method=network.method or "",
        trained_on=network.trained_on or "",
        view=network.view,
        seed=evaluation.options.seed,
        amp=False,
        epoch=result["epochs"],
        encoder=network.architecture or {},
        recipe=settings,
    )


def with_heads(evaluation: Evaluation, views: Sequence[str]) -> Evaluation:
    """Return the evaluation of the networks of all these views together, on the same device."""
    dataset, options, say = evaluation.dataset, evaluation.options, evaluation.console.say
    networks = [evaluation.network]
    networks += [choose_network(dataset, replace(options, view=view), say) for view in views[1:]]
    joined = join_streams(networks, dataset.layout)
    joined.embedder.to(evaluation.device)
    return replace(evaluation, network=joined)


def one_class(scores: np.ndarray, dataset: Dataset) -> str:
    """Return what to say where the classifier gives all test clips the same class; nothing otherwise."""
    found = np.unique(scores.argmax(axis=1))
    if len(found) > 1 or len(scores) < 2:
        return ""
    name = dataset.classes[found[0]]
    return f"all {len(scores)} test clips are given the class {name!r}: try another --lr, or more --epochs"


def _lines(result: dict[str, Any]) -> list[str]:
    clips, figures, epoch = result["clips"], result["figures"], result["best_epoch"]
    head = (
        f"{result['what']}: {result['features']} features, {result['view']} view, {clips['train']} training and "
        f"{counted(clips['test'], 'test clip')} of {result['dataset']}, recipe {result['recipe']}"
    )
    frozen = result["frozen"]
    proof = f"the encoder stayed as it was: {frozen['tensors']} tensors, sha256 {frozen['sha256'][:16]}"
    return [
        head,
        f"{'top1':8} {figures['top1']:6.2f} %{reported_text(result, 'top1')}",
        f"{'top5':8} {figures['top5']:6.2f} %",
        f"{'best':8} {figures['best_top1']:6.2f} %   of epoch {epoch}, chosen on the test clips as in the papers",
        f"{'chance':8} {result['chance']:6.2f} %",
        *([proof] if frozen["tensors"] else []),
        f"written to {result['run']}",
    ]


@together
def run(**given: Any) -> None:
    """Do what the command asks for."""
    options = LinearOptions(**given)
    evaluation = begin(PROTOCOL, replace(options, view=options.heads[0]) if options.heads else options)
    if options.heads:
        evaluation = with_heads(evaluation, options.heads)
    dataset, say = evaluation.dataset, evaluation.console.say
    check_subsets(dataset, say)
    name, recipe = options.load(evaluation.network.method)
    folder = evaluation.open_folder("-augmented" * options.augment)
    trained = train_classifier(evaluation, recipe, augment=options.augment)
    if hint := one_class(trained.scores, dataset):
        say(hint)
    result = summary(evaluation, options, trained, name, recipe, folder)
    if ranks().is_main:
        save(evaluation, options, trained, recipe, result)
    click.echo(json.dumps(result) if options.as_json else visible_lines(_lines(result)))
