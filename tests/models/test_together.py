"""Several batches through one network at once, against one after another."""

import copy

import pytest
import torch
from torch import nn

from skelpipe.models import gpu_block
from skelpipe.models.dsta import DSTA
from skelpipe.models.moco import MoCo
from skelpipe.models.parts import projection_head
from skelpipe.models.stgcn import STGCN
from skelpipe.models.together import joins, maps_together, passed
from skelpipe.skeleton import layout

COCO = layout("coco-17")


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the way of a GPU."""
    monkeypatch.setattr(gpu_block, "ON", ["cpu"])


@pytest.mark.parametrize("absent_bodies", [(0, 0, 0), (3, 3, 3), (2, 3, 0)], ids=str)
def test_batches_leave_what_they_leave_one_by_one(
    absent_bodies: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, float64: None
) -> None:
    torch.manual_seed(0)
    together = STGCN(COCO, width=4, out_channels=20, dropout=0.0).train()
    apart = copy.deepcopy(together)
    clips = [torch.randn(3, 3, 16, 17, 2) * (i + 1) for i in range(3)]
    for x, absent in zip(clips, absent_bodies, strict=True):
        x[:absent, ..., 1] = 0
    push = [torch.randn(3, 20), *(torch.randn(6, 20, 4, 17) for _ in clips[1:])]
    outcome = []
    for encoder, device in ((apart, "cuda"), (together, "cpu")):
        monkeypatch.setattr(gpu_block, "ON", [device])
        found = passed(encoder, *clips)
        sum((each * g).sum() for each, g in zip(found, push, strict=True)).backward()
        outcome.append([*found, *(p.grad for p in encoder.parameters() if p.grad is not None), *encoder.buffers()])
    torch.testing.assert_close(outcome[1], outcome[0], rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("on_gpu")
def test_what_does_not_go_together() -> None:
    encoder, clips = STGCN(COCO, width=4, out_channels=20), torch.randn(2, 3, 16, 17, 2)
    assert maps_together(encoder, [clips, clips]) is not None
    assert maps_together(encoder, [clips, clips[:1]]) is None  # groups of equal size
    assert maps_together(DSTA(COCO, width=8), [clips, clips]) is None
    assert maps_together(encoder.eval(), [clips, clips]) is None


@pytest.mark.usefixtures("on_gpu")
def test_a_head_with_batch_normalisation_takes_batches_apart() -> None:
    h = torch.randn(3, 4, 8)
    for batch_norm in (False, True):
        head = projection_head(8, 6, 5, batch_norm)
        assert joins(head, h[0]) is not batch_norm
        moco = MoCo(nn.Identity(), head, dim=5, queue_size=4, momentum=0.9)
        for found, wanted in zip(moco.project_all(*h), map(moco.project, h), strict=True):
            torch.testing.assert_close(found, wanted)
