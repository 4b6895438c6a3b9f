"""Pre-training that starts from trained weights: `train/pretrain.py --checkpoint`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from torch import Tensor, nn

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.models.method import Method
from skelpipe.models.released.keys import stgcn_key
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.checkpoint import read_checkpoint
from skelpipe.train.running.networks import initialised
from skelpipe.train.running.run_log import read_log
from skelpipe.train.training.start_weights import start_from

Train = Callable[..., Result]
Started = tuple[Method, PretrainRecipe]
RELEASED = ["--recipe", "actclr-released", "--set", "actclr.blocks=[1, 2]", "--set", "init=default"]


@pytest.fixture(scope="session")
def fresh(small_settings: list[str]) -> Callable[..., Started]:
    """A maker of small methods as a run starts from them."""

    def make(name: str, *settings: str, view: str = "joint", seed: int = 7) -> Started:
        recipe = with_overrides(load_recipe(name), [*small_settings[1::2], "temperature=0.2", *settings])
        return initialised(recipe, layout("kinect-v2-25"), seed, view), recipe

    return make


def quiet(text: str) -> None:
    pass


def state(network: nn.Module, part: str) -> dict[str, Tensor]:
    return {f"{part}.{name}": value for name, value in network.state_dict().items()}


@pytest.mark.parametrize("source", ["", "encoder.safetensors", "checkpoints/epoch-0006.pt"])
def test_networks_get_the_weights_and_key_networks_copy_them(
    fresh: Callable[..., Started], finished: Path, tiny_dataset: Dataset, source: str
) -> None:
    method, recipe = fresh("actclr-released", "actclr.blocks=[1, 2]")
    queue, generator = method.moco.queue.clone(), torch.get_rng_state()
    name = start_from(str(finished / source), method, recipe, tiny_dataset, "joint", quiet)
    wanted = load_file(finished / "encoder.safetensors")
    for encoder, head in (
        (method.moco.encoder, method.moco.head),
        (method.moco.key_encoder, method.moco.key_head),
    ):
        found = state(encoder, "encoder") | state(head, "head")
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert torch.equal(method.moco.queue, queue)
    assert torch.equal(torch.get_rng_state(), generator)
    assert name.startswith("skeletonclr, 6 epochs on ntu60-xsub, weights ")
    assert start_from(str(finished), *fresh("aimclr", "aimclr.views=1"), tiny_dataset, "joint", quiet) == name


def test_each_view_gets_its_own(
    fresh: Callable[..., Started], tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Train
) -> None:
    own = ["--set", "crosclr.views=2", "--knn-every", "0"]
    result = pretrain_small(tiny_dataset, tmp_path / "two", "--method", "crosclr", "--epochs", "1", *own)
    assert result.exit_code == 0, result.output
    method, recipe = fresh("aimclr", "aimclr.views=2")
    start_from(str(tmp_path / "two"), method, recipe, tiny_dataset, "joint", quiet)
    for view, name in (("joint", "encoder.safetensors"), ("motion", "encoder-motion.safetensors")):
        encoder, head = method.networks(view)
        found, wanted = state(encoder, "encoder") | state(head, "head"), load_file(tmp_path / "two" / name)
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    three = fresh("aimclr", "aimclr.views=3")
    with pytest.raises(UsageError, match="view: trained on joint, asked for bone"):
        start_from(str(tmp_path / "two"), *three, tiny_dataset, "joint", quiet)


def test_a_released_file(
    fresh: Callable[..., Started], make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]],
    tmp_path: Path,
) -> None:  # fmt: skip
    dataset = make_dataset(ntu_names(actions=1), frames=50, bodies=2)
    torch.manual_seed(2)
    encoder = STGCN(layout("kinect-v2-25"), width=2, out_channels=8)
    head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    content = {f"encoder_q.{stgcn_key(name)}": value for name, value in encoder.state_dict().items()}
    content |= {"queue": torch.rand(8, 32), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    content |= {f"encoder_q.fc.{name}": value for name, value in head.state_dict().items()}
    torch.save(content, tmp_path / "aimclr.pt")
    (method, recipe), said = fresh("actclr-released"), []
    name = start_from(str(tmp_path / "aimclr.pt"), method, recipe, dataset, "joint", said.append)
    assert name.startswith("aimclr as released, weights ")
    assert ["taken as joint" in text for text in said] == [True]
    for made, found in ((encoder, method.moco.encoder), (head, method.moco.key_head)):
        assert all(torch.equal(value, found.state_dict()[key]) for key, value in made.state_dict().items())

    linear = {key: value for key, value in content.items() if not key.startswith(("queue", "encoder_q.fc."))}
    linear |= {"encoder_q.fc.weight": torch.rand(60, 8), "encoder_q.fc.bias": torch.rand(60)}
    torch.save(linear, tmp_path / "linear.pt")
    with pytest.raises(UsageError, match=r"linear\.pt: .* no projection head to start from"):
        start_from(str(tmp_path / "linear.pt"), method, recipe, dataset, "joint", quiet)
    other = str((tmp_path / "aimclr.pt").rename(tmp_path / "model.pth.tar"))
    assert start_from(other, method, recipe, dataset, "joint", quiet).endswith(name[-12:])
    with pytest.raises(
        UsageError, match="of one view and does not say which, this run trains 3: joint, motion, bone"
    ):
        start_from(other, *fresh("crosclr", "crosclr.views=3"), dataset, "joint", quiet)
    with pytest.raises(UsageError, match=r"encoder\.width: 2, this run has 4$"):
        start_from(other, *fresh("skeletonclr", "encoder.width=4"), dataset, "joint", quiet)


def test_a_checkpoint_with_its_keys(
    fresh: Callable[..., Started], finished: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """Key network and queue come along, also into a method that names them otherwise."""
    method, recipe = fresh("skeletonclr")
    name = start_from(str(finished), method, recipe, tiny_dataset, "joint", quiet, with_keys=True)
    assert name.startswith("skeletonclr, 6 epochs on ntu60-xsub, with keys, weights ")
    wanted = read_checkpoint(finished / "checkpoints" / "epoch-0006.pt").model
    assert all(torch.equal(method.state_dict()[key], value) for key, value in wanted.items())
    other, recipe = fresh("aimclr", "aimclr.views=1")
    file = str(finished / "checkpoints" / "epoch-0004.pt")
    assert start_from(file, other, recipe, tiny_dataset, "joint", quiet, with_keys=True) != name
    wanted = read_checkpoint(Path(file)).model
    assert torch.equal(other.mocos["joint"].queue, wanted["moco.queue"])
    assert torch.equal(other.mocos["joint"].key_head[0].weight, wanted["moco.key_head.0.weight"])
    given = fresh("skeletonclr")
    with pytest.raises(UsageError, match=r"encoder\.safetensors: has no key network and no queue"):
        start_from(str(finished / "encoder.safetensors"), *given, tiny_dataset, "joint", quiet, with_keys=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: holds no checkpoint"):
        start_from(str(tmp_path / "empty"), *fresh("skeletonclr"), tiny_dataset, "joint", quiet, with_keys=True)
    with pytest.raises(UsageError, match=r"cannot continue its run: .*moco.queue is float32\[20, 8\], not"):
        start_from(str(finished), *fresh("skeletonclr", "queue=24"), tiny_dataset, "joint", quiet, with_keys=True)


def test_with_keys_needs_a_checkpoint(tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Train) -> None:
    result = pretrain_small(tiny_dataset, tmp_path / "run", "--with-keys")
    assert result.exit_code == 2
    assert "--with-keys continues the run of --checkpoint: give one" in result.output


def test_what_does_not_fit_is_refused(
    fresh: Callable[..., Started], finished: Path, tiny_dataset: Dataset, tmp_path: Path,
    make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]],
) -> None:  # fmt: skip
    with pytest.raises(UsageError, match="view: trained on joint, asked for bone"):
        start_from(str(finished), *fresh("skeletonclr", view="bone"), tiny_dataset, "bone", quiet)
    longer = make_dataset(ntu_names(actions=1), frames=12)
    with pytest.raises(UsageError, match="frames: trained on 8, asked for 12"):
        start_from(str(finished), *fresh("skeletonclr"), longer, "joint", quiet)
    with pytest.raises(UsageError, match=r"networks are not this run's: head\.dim: 8, this run has 4$"):
        start_from(str(finished), *fresh("skeletonclr", "head.dim=4"), tiny_dataset, "joint", quiet)
    other = fresh("skeletonclr", "encoder.graph=agcn")
    with pytest.raises(UsageError, match=r"encoder\.graph: stgcn_capped, this run has agcn$"):
        start_from(str(finished), *other, tiny_dataset, "joint", quiet)
    like_it = ["skeattnclr.heads=2", "head.batch_norm=false", "encoder.graph=stgcn_capped"]
    attention = ["skeattnclr.blocks=[1, 2]", *like_it]
    with pytest.raises(UsageError, match=r"run's: skeattnclr\.predictors: none, this run has three$"):
        start_from(str(finished), *fresh("skeattnclr", *attention), tiny_dataset, "joint", quiet)
    without = fresh("skeattnclr", *attention, "skeattnclr.predictors=variant")
    start_from(str(finished), *without, tiny_dataset, "joint", quiet)
    with pytest.raises(UsageError, match="there is no such run or file"):
        start_from(str(tmp_path / "none"), *fresh("skeletonclr"), tiny_dataset, "joint", quiet)


def test_says_the_width_of_predictors_that_do_not_fit(
    tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Train, fresh: Callable[..., Started]
) -> None:
    heads = ["skeattnclr.heads=2", "skeattnclr.blocks=[1, 2]"]
    options = [word for each in heads for word in ("--set", each)]
    usual = ["--recipe", "skeattnclr", *options, "--set", "skeattnclr.predictor_hidden=6"]
    result = pretrain_small(tiny_dataset, tmp_path / "run", *usual, "--epochs", "1", "--knn-every", "0")
    assert result.exit_code == 0, result.output
    run = str(tmp_path / "run")
    message = r"networks are not this run's: skeattnclr\.predictor_hidden: 6, this run has {}$"
    for width, has in ((5, 5), (0, 8)):  # 0: as wide as the head's
        other = fresh("skeattnclr", *heads, f"skeattnclr.predictor_hidden={width}", "head.hidden=8")
        with pytest.raises(UsageError, match=message.format(has)):
            start_from(run, *other, tiny_dataset, "joint", quiet)
    same = fresh("skeattnclr", *heads, "skeattnclr.predictor_hidden=0", "head.hidden=6")
    with pytest.raises(UsageError, match=r"run's: head\.hidden: \d+, this run has 6$"):
        start_from(run, *same, tiny_dataset, "joint", quiet)


def test_the_released_actclr_goes_on_from_a_run(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Train, same_run: Callable[..., None]
) -> None:
    def train(out: str, *options: str) -> Result:
        return pretrain_small(
            tiny_dataset, tmp_path / out, *RELEASED, "--save-every", "1", "--knn-every", "0", *options
        )

    begun = ["--checkpoint", str(finished), "--lr", "0.01"]
    result = train("whole", *begun, "--epochs", "2")
    assert result.exit_code == 0, result.output
    assert "weights (from skeletonclr, 6 epochs on ntu60-xsub, weights " in result.stderr
    assert "have learned" not in result.stderr
    assert train("cut", *begun, "--epochs", "1").exit_code == 0
    result = train("cut", "--resume", "--epochs", "2", "--lr", "0.01")
    assert result.exit_code == 2
    assert "start (--checkpoint): skeletonclr, 6 epochs on ntu60-xsub" in result.stderr
    assert "now none" in result.stderr
    result = train("cut", *begun, "--resume", "--epochs", "2")
    assert result.exit_code == 0, result.output
    same_run(tmp_path / "whole", tmp_path / "cut", epoch=2)
    saved = torch.load(tmp_path / "whole" / "checkpoints" / "epoch-0002.pt", weights_only=True)
    assert saved["identity"]["begun_from"].startswith("skeletonclr, 6 epochs on ntu60-xsub, weights ")


def test_with_a_rate_of_nothing_the_weights_stay(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Train
) -> None:
    options = [*RELEASED, "--epochs", "1", "--lr", "0", "--knn-every", "0", "--json"]
    result = pretrain_small(tiny_dataset, tmp_path / "run", *options, "--checkpoint", str(finished))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["epochs"] == 1
    before, after = (load_file(folder / "encoder.safetensors") for folder in (finished, tmp_path / "run"))
    still = [key for key in before if "running" not in key and "num_batches" not in key]
    assert len(still) > 50
    assert all(torch.equal(before[key], after[key]) for key in still)
    assert len(read_log(tmp_path / "run" / "log.jsonl")) == 1


def test_networks_that_have_not_learned_are_said(
    tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Train
) -> None:
    result = pretrain_small(tiny_dataset, tmp_path / "run", *RELEASED, "--epochs", "1", "--knn-every", "0")
    assert result.exit_code == 0, result.output
    assert "starts from trained networks, and these are not: name some with --checkpoint" in result.stderr
