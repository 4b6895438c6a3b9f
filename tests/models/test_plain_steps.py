"""All methods as their papers have them against steps written without skelpipe's models, live and as stored."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from skelpipe.models import build_method
from skelpipe.models.method import Progress
from skelpipe.skeleton import layout

sys.path.append(str(Path(__file__).parent))
import plain_steps as plain

TOLERANCE = 1e-9


def close(found: torch.Tensor, wanted: torch.Tensor, what: str) -> None:
    torch.testing.assert_close(found, wanted, rtol=TOLERANCE, atol=TOLERANCE, msg=lambda text: f"{what}: {text}")


@pytest.mark.parametrize("name", plain.RUNS)
def test_two_steps_are_the_papers(name: str, float64: None) -> None:
    _, recipe, views = plain.RUNS[name]
    recipe = {"method": name.partition("-")[0], **recipe}
    method = build_method(recipe, layout("kinect-v2-25"), anchor=plain.anchor).train()
    weights = plain.drawn({each: x.shape for each, x in method.state_dict().items()})
    method.load_state_dict(weights, strict=False)
    for module in method.modules():
        if hasattr(module, "pointer"):
            module.pointer.fill_(plain.QUEUE - 2)  # so that the keys of the first step go around the end
    trained = {each: p for each, p in method.named_parameters() if p.requires_grad}
    assert sorted(trained) == plain.learned(sorted(weights))
    optimiser = torch.optim.SGD(
        trained.values(), lr=plain.RATE, momentum=plain.SGD_MOMENTUM, weight_decay=plain.DECAY
    )
    expected = plain.two_steps(name, weights)
    stored = json.loads(plain.STORED.read_text("utf-8"))[name]
    steps = []
    for number, (loss, gradients, after) in enumerate(expected):
        given = plain.clips_of(views, number)
        method.advance(Progress(epoch=number, epochs=6, step=0, steps=1))
        step = method(SimpleNamespace(views=given, extras=given))
        close(step.loss.detach(), torch.tensor(loss), "loss")
        optimiser.zero_grad()
        step.loss.backward()
        found = {each: p.grad.clone() for each, p in trained.items() if p.grad is not None}
        assert found.keys() == gradients.keys()
        for each, gradient in gradients.items():
            close(found[each], gradient, f"gradient of {each}")
        optimiser.step()
        method.finish()
        state = {each: x.clone() for each, x in method.state_dict().items() if each in after}
        assert state.keys() == after.keys()
        for each, value in after.items():
            close(state[each], value, each)
        steps.append((float(step.loss.detach()), found, state))
    for found, wanted in zip(plain.stored_numbers(steps), stored, strict=True):
        assert found.keys() == wanted.keys()
        for each, value in wanted.items():
            scale = max(1.0, abs(value)) if isinstance(value, float) else 1.0
            close(torch.tensor(found[each]) / scale, torch.tensor(value) / scale, f"stored {each}")
