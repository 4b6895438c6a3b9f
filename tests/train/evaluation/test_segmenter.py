"""Training on windows, and a class for every frame."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.train.evaluation import segmenter
from skelpipe.train.evaluation.segmenter import frame_scores, train_segmenter
from skelpipe.train.evaluation.segmenter_settings import SegmenterSettings
from skelpipe.train.evaluation.windows import Windows
from skelpipe.train.running.ranks import Ranks

CPU = torch.device("cpu")


class Tiny(nn.Module):
    """An encoder small enough to be followed by hand, with what evaluation must not touch: BN and dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.mix = nn.Linear(3 * 25, 12)
        self.norm = nn.BatchNorm1d(12)
        self.drop = nn.Dropout(0.5)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        pooled = clips.mean(dim=(2, 4)).flatten(1)
        return torch.relu(self.drop(self.norm(self.mix(pooled))))


def bits(module: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def test_training_is_sgd_on_the_drawn_windows(untrimmed: Dataset) -> None:
    windows = Windows(untrimmed, "train", "joint")
    encoder = Tiny().eval()
    settings = SegmenterSettings(epochs=3, batch_size=10, lr=0.5, milestones=(2,), windows=7, seed=5)
    head, log = train_segmenter(encoder, 12, 52, windows, settings, CPU)

    torch.manual_seed(5)
    fresh = nn.Linear(12, 52)
    nn.init.normal_(fresh.weight, 0, 0.02)
    weight, bias = fresh.weight.detach().double().numpy(), np.zeros(52)
    moving = [np.zeros_like(weight), np.zeros_like(bias)]
    for epoch, rate in ((1, 0.5), (2, 0.5), (3, 0.05)):
        losses = []
        rows = windows.draw(7, 5, epoch)
        rows = rows[segmenter.epoch_order(5, epoch, [21])]
        for batch in (rows[:10], rows[10:20], rows[20:]):
            with torch.no_grad():
                h = encoder(windows.clips(batch)).double().numpy()
            logits = h @ weight.T + bias
            shares = np.exp(logits - logits.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
            labels = windows.labels[batch]
            losses.append(-np.log(shares[np.arange(len(batch)), labels]).mean())
            shares[np.arange(len(batch)), labels] -= 1
            gradients = (shares.T @ h / len(batch), shares.mean(0))
            moving = [0.9 * old + new for old, new in zip(moving, gradients, strict=True)]
            weight, bias = weight - rate * moving[0], bias - rate * moving[1]
        assert log[epoch - 1]["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
        assert log[epoch - 1]["lr"] == pytest.approx(rate)
    np.testing.assert_allclose(head.weight.detach().numpy(), weight, atol=1e-4)
    np.testing.assert_allclose(head.bias.detach().numpy(), bias, atol=1e-4)


def test_the_encoder_moves_only_when_it_is_finetuned(untrimmed: Dataset) -> None:
    windows = Windows(untrimmed, "train", "joint")
    encoder = Tiny()
    before = bits(encoder)
    train_segmenter(encoder, 12, 52, windows, SegmenterSettings(epochs=1, windows=4), CPU)
    assert bits(encoder) == before
    train_segmenter(encoder, 12, 52, windows, SegmenterSettings(epochs=1, windows=4, finetune=True), CPU)
    assert {name for name, value in bits(encoder).items() if value != before[name]} == set(before)


def test_a_loss_that_is_not_finite_ends_the_run(untrimmed: Dataset) -> None:
    windows = Windows(untrimmed, "train", "joint")
    with pytest.raises(SkelpipeError, match=r"in epoch \d+: a lower --lr may help"):
        train_segmenter(nn.Flatten(), 1500, 52, windows, SegmenterSettings(epochs=9, windows=9, lr=1e38), CPU)


def test_every_frame_gets_the_scores_of_its_window(untrimmed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, encoder, head = Windows(untrimmed, "test", "joint"), Tiny(), nn.Linear(12, 52)
    found = frame_scores(encoder, head, windows, CPU, quiet=True)
    assert found.shape == (260, 52)
    assert encoder.training  # left as it was
    encoder.eval()
    with torch.no_grad():
        for row in (0, 50, 219, 220, 259):
            alone = head(encoder(windows.clips(np.array([row]))))[0]
            np.testing.assert_allclose(found[row], alone.numpy(), atol=1e-5)
    monkeypatch.setattr(segmenter, "SCORED", 33)
    np.testing.assert_allclose(frame_scores(encoder, head, windows, CPU, quiet=True), found, atol=1e-5)
    strided = frame_scores(encoder, head, windows, CPU, stride=9, quiet=True)
    np.testing.assert_allclose(strided[9:18], np.tile(found[13], (9, 1)), atol=1e-5)
    np.testing.assert_allclose(strided[216:220], np.tile(found[218], (4, 1)), atol=1e-5)


def test_ranks_score_whole_batches_each(
    untrimmed: Dataset, monkeypatch: pytest.MonkeyPatch, one_of_two: Callable[[int], Ranks]
) -> None:
    windows, encoder, head = Windows(untrimmed, "test", "joint"), Tiny(), nn.Linear(12, 52)
    monkeypatch.setattr(segmenter, "SCORED", 50)  # 260 frames: three batches of 50 each, the last one of 10
    alone = frame_scores(encoder, head, windows, CPU, quiet=True)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(segmenter, "ranks", lambda rank=rank: one_of_two(rank))
        shares.append(frame_scores(encoder, head, windows, CPU, quiet=True))
    assert [len(share) for share in shares] == [150, 110]
    np.testing.assert_array_equal(np.concatenate(shares), alone)


def test_an_encoder_is_finetuned_by_one_process(
    untrimmed: Dataset, monkeypatch: pytest.MonkeyPatch, one_of_two: Callable[[int], Ranks]
) -> None:
    monkeypatch.setattr(segmenter, "ranks", lambda: one_of_two(0))
    windows = Windows(untrimmed, "train", "joint")
    with pytest.raises(UsageError, match="start it without torchrun"):
        train_segmenter(Tiny(), 12, 52, windows, SegmenterSettings(finetune=True), CPU)
