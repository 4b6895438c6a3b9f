"""All methods against recorded steps of their authors' code, in float64 from equal weights, clips and queues."""

import re
from collections.abc import Callable, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skelpipe.augment.skelemix import SkeleMix
from skelpipe.models import body_backbone
from skelpipe.models.method import Step

CASES = (
    *("skeletonclr", "crosclr-stage1", "crosclr-stage2", "aimclr-stage1", "aimclr-stage2"),
    *("skelemixclr-older-r1", "skelemixclr-plus-swapv2", "skeattnclr-stgcn", "skeattnclr-dsta"),
    *("skeattnclr-bigru", "msmclr-stage1", "msmclr-stage2"),
)
TOLERANCE = 1e-9
STEEP = "skeattnclr-dsta"
LOOSER = {(STEEP, "gradients"): 1e-8}  # they are up to 10 there, and steep
WATCH = {"aimclr": {"eadm": "eadm", "positive": "nearest"}, "msmclr": {"positive": "nearest"}}
OURS = {"z_hat": "query", "z_tilde": "extreme", "z_drop": "dropped"}  # names of recorded logits, where not equal


@pytest.mark.parametrize("case", CASES)
def test_steps_are_the_authors(
    case: str, replay: Callable[..., Any], clips_of: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == STEEP:  # all rows, as in the authors' code: each step multiplies roundings by a thousand
        monkeypatch.setattr(body_backbone, "computed_rows", lambda *args, **kwargs: None)
    run = replayed(case, replay, clips_of)
    assert not run.recording.unread
    assert beyond_limits(case, run) == {}


def test_a_steep_step_is_the_authors_with_absent_bodies_computed_once(
    replay: Callable[..., Any], clips_of: type[Any]
) -> None:
    assert beyond_limits(STEEP, replayed(STEEP, replay, clips_of, steps=1)) == {}


def replayed(case: str, replay: Callable[..., Any], clips_of: type[Any], steps: int | None = None) -> Any:
    """Make the steps of a recording, or the first of them; return what was compared."""
    run = replay(case, WATCH.get(case.partition("-")[0]))
    attention = []
    if "step0/attention" in run.recording:
        run.method.attention.register_forward_hook(lambda module, given, mask: attention.append(mask))
    for number in run.steps[:steps]:
        step = run.step(number, batch(run, number, clips_of))
        compare_logits(run, number, step)
        compare_inner(run, number, attention)
    return run


def beyond_limits(case: str, run: Any) -> dict[str, float]:
    limits = {quantity: LOOSER.get((case, quantity), TOLERANCE) for quantity in run.worst}
    return {name: value for name, value in run.worst.items() if not value <= limits[name]}


def test_a_weight_that_differs_is_noticed(replay: Callable[..., Any], clips_of: type[Any]) -> None:
    run = replay("skeletonclr", change=1e-6)
    step = run.step(0, batch(run, 0, clips_of))
    compare_logits(run, 0, step)
    assert {name for name, value in run.worst.items() if value > TOLERANCE} == {
        "loss",
        "logits query",
        "gradients",
        "weights",
        "running statistics",
    }


def batch(run: Any, number: int, clips_of: type[Any]) -> Any:
    """The views as they were fed; mixtures are made of the query view, as recorded."""
    views, extras = run.recording.group(f"step{number}/view"), {}
    mixer, n = SkeleMix(run.layout), len(views["query"])
    for name in run.options.get("mixed", ()):
        mix = run.recording.group(f"step{number}/mix/{name}")
        params = {
            "parts": mix["parts"].expand(n, -1),
            "first": mix["first"].expand(n),
            "length": mix["length"].expand(n),
            "donor": mix["donor"],
        }
        mixed = mixer.mix(views["query"].clone(), params)
        run.compare_summary("mixed clip", mixed.clip, mix["clip"])
        run.compare("mixed mask", mixed.mask, mix["mask"].expand(n, -1, -1))
        views[name], extras[f"{name}_mask"], extras[f"{name}_donor"] = mixed.clip, mixed.mask, mixed.donor
    return clips_of(views, extras)


def compare_logits(run: Any, number: int, step: Step) -> None:
    """Compare logits and probabilities of the recorded rows, and the losses that follow from all of them."""
    at, recording = f"step{number}", run.recording
    for name, wanted in recording.group(f"{at}/logits").items():
        run.compare(f"logits {name}", step.logits[OURS.get(name, name)][: len(wanted)], wanted)
    for name, wanted in recording.group(f"{at}/softmax").items():
        run.compare(f"softmax {name}", step.logits[OURS.get(name, name)].softmax(1)[: len(wanted)], wanted)
    parts = derived_parts(step.logits)
    for name in [name for name in parts if f"{at}/part/{name}" in recording]:
        run.compare(f"part {name}, of logits", parts[name], recording[f"{at}/part/{name}"])
    for u, v in permutations(run.method.names if f"{at}/cross_logits/joint<-motion" in recording else (), 2):
        logits, pair = step.logits[f"{u}<-{v}"], f"{u}<-{v}"
        near = step.logits[v][:, 1:].argmax(1)
        positive = torch.zeros_like(logits)
        positive[:, 0] = 1
        rows, entries = torch.arange(len(near)), step.logits[v].shape[1] - 1
        positive[rows, 1 + near], positive[rows, 1 + entries + near] = 1, 1
        loss = -((logits.log_softmax(1) * positive).sum(1) / positive.sum(1)).mean()
        run.compare(f"part {pair}", loss, recording[f"{at}/part/{pair}"])
        for name, found in (("cross_logits", logits), ("cross_positive", positive)):
            wanted = recording[f"{at}/{name}/{pair}"]
            run.compare(f"{name} {pair}", found[: len(wanted)], wanted)


def derived_parts(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses of all rows from their logits: InfoNCE by name, and what a view is taught by z_hat (D3M)."""
    found = {name: -each.log_softmax(1)[:, 0].mean() for name, each in logits.items() if "<-" not in name}
    taught = {"tilde": "extreme", "drop": "dropped", "joint": "joint", "part": "part", "body": "body"}
    for name, ours in taught.items():
        if ours in logits and "query" in logits:
            loss = F.softmax(logits["query"], 1) * F.log_softmax(logits[ours], 1)
            found[f"taught_{name}"] = -loss.sum(1).mean()
    return found


def compare_inner(run: Any, number: int, attention: list[Tensor]) -> None:
    """Compare what is between clips and logits: EADM's map, mined positives, attention."""
    at, recording = f"step{number}", run.recording
    if f"{at}/positive" in recording:
        wanted = recording[f"{at}/positive"]
        run.compare("positives", run.seen["positive"][: len(wanted)], wanted)
    if f"{at}/eadm" in recording:
        run.compare_summary("EADM's map", run.seen["eadm"], recording[f"{at}/eadm"])
        run.compare("zeros of EADM's map", (run.seen["eadm"] == 0).sum(), recording[f"{at}/eadm_zeros"])
    if f"{at}/attention" in recording:
        mask = attention[-1].flatten(2).transpose(1, 2)
        run.compare("shape of attention", torch.tensor(mask.shape), recording[f"{at}/attention_shape"])
        run.compare_summary("attention", mask, recording[f"{at}/attention"])


def test_every_recording_is_read_by_a_test() -> None:
    folder = Path(__file__).resolve().parents[3] / "shared" / "facts" / "steps"
    if not folder.is_dir():
        pytest.skip(f"the recorded steps of the authors' code are not here: {folder} is missing")
    tests = Path(__file__).parent.parent
    sources = [*(tests / "models").glob("test_*.py"), *(tests / "pipeline" / "augment").glob("test_*.py")]
    quoted = set(re.findall(r'"([\w-]+)"', "".join(file.read_text(encoding="utf-8") for file in sources)))
    unread = {
        path.stem
        for path in folder.glob("*.npz")
        if not {path.stem, path.stem.removeprefix("augment-"), path.stem.removeprefix("augment-adain-")} & quoted
    }
    assert unread == set()
