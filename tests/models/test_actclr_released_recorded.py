"""The released ActCLR against recorded steps of its code, in float64 from equal weights, clips and queues.

Masks are float32 there even so: what comes after them agrees within 1e-6, what comes before within 1e-9. At "head"
masks are rounding noise, so that the recorded masks are given to our step.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.models import actclr_released

OF_2023 = [
    *("actclr-2023-joint", "actclr-2023-bone", "actclr-2023-motion"),
    *("actclr-2023-joint-late", "actclr-2023-joint-aswritten"),
]
NEWEST = ["actclr-head-joint", "actclr-head-motion"]
OURS = {"blend": "blended", "mixed": "mixed"}  # names of recorded mixtures, and of our views
BEFORE_MASKS = ("graph", "pointer", "key weights", "style transfer", "mixture", "anchor in step 0")
STEEP = ("mask of key", "mask of act", "mask of plain", "weight of SAFP")  # activations are divided by 1e-8


@pytest.mark.parametrize("case", [*OF_2023, *NEWEST])
def test_steps_are_the_authors(
    case: str, replay: Callable[..., Any], clips_of: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replay(case, state="head" if case in NEWEST else "2023-12")
    seen = watched(run, monkeypatch)
    for number in run.steps:
        seen.clear()
        seen["masks given"] = [run.recording[f"step{number}/mask/{name}"] for name in ("key", "act", "plain")]
        clips = batch(run, number, clips_of)
        seen["bank"] = run.method.moco.queue.clone()
        run.step(number, clips)
        compare_inner(run, number, clips, seen)
    assert not run.recording.unread
    limits = {name: 1e-9 if name in BEFORE_MASKS else 1e-5 if name in STEEP else 1e-6 for name in run.worst}
    assert {name: value for name, value in run.worst.items() if not value <= limits[name]} == {}


@pytest.mark.parametrize("case", NEWEST)
def test_without_actionlets_the_newest_states_first_step_is_close(
    case: str, replay: Callable[..., Any], clips_of: type[Any]
) -> None:
    """Our masks are zeros where theirs are noise: 1e-12 here. The steps after it are steep in what differs."""
    run = replay(case, state="head")
    run.step(0, batch(run, 0, clips_of))
    assert {name: value for name, value in run.worst.items() if not value <= 2e-5} == {}


def batch(run: Any, number: int, clips_of: type[Any]) -> Any:
    """The views as they were fed, the style transfer's result rounded; both mixtures are made of them."""
    recording, at, extras = run.recording, f"step{number}", {}
    views = recording.group(f"{at}/view")
    style = SkeletonAdaIN(run.layout, run.options["view"], "2023-12" if run.options["style"] == "2023" else "head")
    drawn = {"donor": recording[f"{at}/style_donor"], "epoch": torch.tensor(run.options["authors_epoch"])}
    run.compare_summary("style transfer", style.apply(views["plain"], drawn), recording[f"{at}/styled_exact"])
    for name, ours in OURS.items():
        mix = recording.group(f"{at}/mix/{name}")
        clips = views["styled"] if mix.pop("of") else views["plain"]
        wanted = mix.pop("clip")
        rows = {key: x if key == "donor" else x.expand(len(clips), *x.shape) for key, x in mix.items()}
        mixed = SkeletonMix(run.layout, taken=True).mix(clips, rows)
        run.compare_summary("mixture", mixed.clip, wanted)
        views[ours] = mixed.clip
        extras |= {f"{ours}_{key}": getattr(mixed, key) for key in ("mask", "donor", "taken")}
    return clips_of(views, extras)


def watched(run: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Keep what is between clips and losses; at "head" give the recorded masks."""
    seen: dict[str, Any] = {}

    def keep(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*given: Any) -> Any:
            found = call(*given)
            seen.setdefault(name, []).append((found, given))
            return found

        return kept

    def actionlet(*given: Any) -> Tensor:
        return seen["masks given"][len(seen.get("masks", []))]

    found = actclr_released._actionlet if run.options["style"] == "2023" else actionlet
    monkeypatch.setattr(actclr_released, "_actionlet", keep("masks", found))
    for name in ("safp", "shares_of_mixed", "mixed_keys", "mats"):
        monkeypatch.setattr(actclr_released, name, keep(name, getattr(actclr_released, name)))
    run.method.losses = keep("losses", run.method.losses)
    head = run.method.moco.key_head
    head.register_forward_hook(lambda head, given, z: seen.setdefault("z", []).append(z.detach()))
    return seen


def compare_inner(run: Any, number: int, clips: Any, seen: dict[str, Any]) -> None:
    """Compare masks, keys, queries and what the losses compare."""
    at, recording = f"step{number}", run.recording
    anchor = seen["masks"][0][1][4]
    run.compare("anchor in step 0" if number == 0 else "anchor", anchor, recording[f"{at}/anchor"])
    for (mask, _), name in zip(seen["masks"], ("key", "act", "plain"), strict=True):
        run.compare(f"mask of {name}", mask, recording[f"{at}/mask/{name}"])
    pooled, (_, mask) = seen["safp"][0]
    run.compare("SAFP", pooled, recording[f"{at}/safp"])
    run.compare("weight of SAFP", mask.double().sum((2, 3)) + 1e-5, recording[f"{at}/safp_weight"])
    for z, name in zip(seen["z"][-2:], ("plain", "safp"), strict=True):
        run.compare(f"key, {name}", z, recording[f"{at}/key_{name}"])
    inputs = [found for found, _ in seen["mats"]] + [clips.views["mixed"]]
    for name, given, (_, (q, k, bank)) in zip(("act", *OURS), inputs, seen["losses"], strict=True):
        run.compare_summary(f"input {name}", given, recording[f"{at}/input/{name}"])
        run.compare(f"query {name}", q, recording[f"{at}/query/{name}"])
        assert torch.equal(bank, seen["bank"])
        similar, target = (q @ bank.T).square(), k @ bank.T
        target = torch.where(target > 0.95, -1.0, target)
        for quantity, found in (("similar", similar), ("target", target)):
            wanted = recording[f"{at}/{quantity}/{name}"]
            run.compare(f"{quantity} {name}", found[: len(wanted)], wanted)
    (shares, _), (key, _) = seen["shares_of_mixed"][0], seen["mixed_keys"][0]
    for name, share in zip("pc", shares, strict=True):
        run.compare(f"share {name}", share, recording[f"{at}/mixed_key/{name}"])
    run.compare("mixed key", key, recording[f"{at}/mixed_key/key"])
