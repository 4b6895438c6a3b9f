"""What a recipe holds: one dataclass per kind of training, whose defaults are the commonest values of the papers.

A recipe file says what differs from these defaults; the built-in ones of pre-training name every value with its
source.
"""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from annotated_types import Ge
from pydantic import Strict

from skelpipe.augment.op_lists import check_views
from skelpipe.augment.operators import Chosen, Strength
from skelpipe.front.descriptions import described_safely
from skelpipe.loader.recipe_views import CLIP
from skelpipe.models.build import view_operators
from skelpipe.models.parts import MethodRecipe
from skelpipe.models.settings import BackboneSettings, Initialiser
from skelpipe.settings import Amount, Count, Flag, Share, Whole, top_keys
from skelpipe.train.recipes.asked import Kind
from skelpipe.train.recipes.builtin import recipe_text

__all__ = [
    "FinetuneOptimiser",
    "FinetuneRecipe",
    "LinearOptimiser",
    "LinearRecipe",
    "Optimiser",
    "PretrainRecipe",
    "Recipe",
]


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """The `optimiser` section: SGD or Adam, with decay on every parameter, and the learning rate by epoch.

    `momentum` is SGD's momentum or Adam's first beta. In the first `warmup` epochs the rate rises linearly to
    `lr`; after each epoch of `milestones` it is divided by 10. A step follows the mean gradient of `accumulate`
    batches.

    With `schedule` "plateau" the rate is also multiplied by `factor`, down to `min_lr` at least, whenever the mean
    loss of an epoch has not been lower than the lowest times 1 - `threshold` for more than `patience` epochs; the
    next `cooldown` epochs do not count. These are the rules and the defaults of PyTorch's ReduceLROnPlateau.
    """

    name: Literal["sgd", "adam"] = "sgd"
    lr: Amount = 0.1
    momentum: Share = 0.9
    weight_decay: Amount = 1e-4
    warmup: Whole = 0
    milestones: list[Count] = field(default_factory=lambda: [250])
    accumulate: Count = 1
    schedule: Literal["steps", "plateau"] = "steps"
    factor: Share = 0.1
    patience: Whole = 10
    threshold: Amount = 1e-4
    cooldown: Whole = 0
    min_lr: Amount = 0.0


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(MethodRecipe):
    """Pre-training without labels by `method`. The defaults are those of SkeletonCLR, as AimCLR restates them.

    `reported` is the name by which the papers' tables (`train/papers`) know the recipe. It is empty for a recipe
    of one's own, of which no paper has figures, and plays no part in comparisons.
    """

    kind: ClassVar[Kind] = "pretraining"
    frames: Annotated[int, Strict(), Ge(2)] = 50
    epochs: Count = 300
    batch_size: Count = 128
    optimiser: Optimiser = field(default_factory=Optimiser)
    reported: str = ""

    @described_safely
    def __repr__(self) -> str:
        own = {} if self.settings is None else {self.method: asdict(type(self.settings)())}
        return f"<PretrainRecipe {recipe_text(self.content(), type(self)().content() | own)}>"

    def content(self) -> dict[str, Any]:
        """Return all values with their sections, as a file has them; `reported` is left out."""
        values = _without_plateau(asdict(self), self.optimiser)
        own = values.pop("settings")
        values |= {key: own.pop(key) for key in top_keys(type(self.settings))}
        others = [key for key in values if key not in (*_ORDER, "views", "plugins", "reported")]  # of a plug-in
        content = {key: values[key] for key in (*_ORDER, *others) if key in values}
        content |= {key: values[key] for key in ("views", "plugins") if values[key]}
        return content | ({self.method: own} if own else {})

    def operators(self, where: str = "recipe") -> dict[str, tuple[Chosen, ...]]:
        """Return the operators of each view that the method augments."""
        return view_operators(self, where)


_ORDER = (
    *("method", "variant", "frames", "epochs", "batch_size", "optimiser", "init"),
    *("temperature", "momentum", "queue", "encoder", "head", "augment"),
)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptimiser(Optimiser):
    """The `optimiser` section of training with labels, where SGD may have Nesterov's momentum."""

    warmup: Whole = 10
    milestones: list[Count] = field(default_factory=lambda: [50, 70, 90])
    nesterov: Flag = True


@dataclass(frozen=True, kw_only=True)
class FinetuneAugment:
    """The `augment` section of training with labels: an augmentation by name, and its normal part's strengths."""

    name: Literal["none", "normal", "aimclr-extreme", "msmclr-strong"] = "none"
    shear: Amount = 0.5
    crop: Count = 6

    @property
    def ops(self) -> str | list[str]:
        """The augmentation by name, or no operators."""
        return [] if self.name == "none" else self.name


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """Training of a whole network with labels: fine-tuning, or the supervised baseline from scratch.

    `init` is for the new linear layer. With an `encoder` section that network is trained from scratch, and `init`
    is for all of it. `views` changes what `augment` names (see `augment.op_lists`). `modes` eval keeps the encoder
    in evaluation mode (divergence `finetune-eval-mode`). With `balanced` an epoch has all classes equally often
    (see `skelpipe.loader.sampling`). The defaults are SkeleMixCLR's (Chen et al. 2022, "Finetune Protocol").
    """

    kind: ClassVar[Kind] = "finetuning"
    protocol: Literal["finetune"] = "finetune"
    epochs: Count = 110
    batch_size: Count = 128
    optimiser: FinetuneOptimiser = field(default_factory=FinetuneOptimiser)
    init: Initialiser = "paper"
    modes: Literal["train", "eval"] = "train"
    augment: FinetuneAugment = field(default_factory=FinetuneAugment)
    views: Annotated[dict[str, Any], Strict()] = field(default_factory=dict)
    encoder: BackboneSettings | None = None
    balanced: Flag = False
    plugins: Annotated[list[str], Strict()] = field(default_factory=list)
    reported: str = ""

    @described_safely
    def __repr__(self) -> str:
        return f"<FinetuneRecipe {recipe_text(self.content(), type(self)().content())}>"

    def content(self) -> dict[str, Any]:
        """Return all values with their sections, as a file has them; `reported` is left out."""
        values = _without_plateau(_without_default(asdict(self)), self.optimiser)
        del values["reported"]
        return {key: value for key, value in values.items() if value is not None}

    def operators(self, where: str = "recipe") -> dict[str, tuple[Chosen, ...]]:
        """Return the operators of the one view, `clip`; UsageError, which names `where`, if they are wrong."""
        strength = Strength(self.augment.shear, self.augment.crop)
        return check_views(self.views, {CLIP: self.augment.ops}, strength, where)


@dataclass(frozen=True, kw_only=True)
class LinearOptimiser:
    """The `optimiser` section of linear evaluation: SGD without Nesterov."""

    lr: Amount = 3.0
    momentum: Share = 0.9
    weight_decay: Amount = 0.0
    milestones: list[Count] = field(default_factory=lambda: [80])


@dataclass(frozen=True, kw_only=True)
class LinearRecipe:
    """Training of a linear classifier on frozen features, tested every `test_every` epochs.

    With `balanced` an epoch has all classes equally often (see `skelpipe.loader.sampling`). The defaults are those
    of AimCLR (Guo et al. 2022, "Experimental Settings").
    """

    kind: ClassVar[Kind] = "linear evaluation"
    protocol: Literal["linear"] = "linear"
    epochs: Count = 100
    batch_size: Count = 128
    test_every: Count = 5
    optimiser: LinearOptimiser = field(default_factory=LinearOptimiser)
    balanced: Flag = False

    @described_safely
    def __repr__(self) -> str:
        return f"<LinearRecipe {recipe_text(self.content(), type(self)().content())}>"

    def content(self) -> dict[str, Any]:
        """Return all values with their sections, as a file has them."""
        return _without_default(asdict(self))


PLATEAU = ("schedule", "factor", "patience", "threshold", "cooldown", "min_lr")


def _without_plateau(values: dict[str, Any], optimiser: Optimiser) -> dict[str, Any]:
    """Leave the keys of the plateau out where they have no effect, as files had it before they existed."""
    if optimiser.schedule == "plateau":
        return values
    kept = {key: value for key, value in values["optimiser"].items() if key not in PLATEAU}
    return {**values, "optimiser": kept}


def _without_default(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys where they say nothing, as files had it before the keys existed."""
    return {key: value for key, value in values.items() if key not in ("balanced", "views", "plugins") or value}


Recipe: TypeAlias = PretrainRecipe | FinetuneRecipe | LinearRecipe
