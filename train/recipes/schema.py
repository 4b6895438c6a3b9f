"""What a recipe holds: one dataclass per kind of training, whose defaults are the commonest values of the papers.

A recipe file says what differs from these defaults; the built-in ones of pre-training name every value with its
source.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from skelpipe.augment.named_chains import CLIP
from skelpipe.errors import UsageError
from skelpipe.front.descriptions import described_safely
from skelpipe.models.recipe import MethodRecipe, view_operators
from skelpipe.models.settings import BackboneSettings, Initialiser, refuse_unused
from skelpipe.settings import Amount, Count, Flag, Integer, Share, Whole, at_least, top_keys
from skelpipe.train.recipes.asked import Kind
from skelpipe.train.recipes.builtin import recipe_text

if TYPE_CHECKING:
    from skelpipe.augment.operators import Chosen

__all__ = [
    "FinetuneOptimiser",
    "FinetuneRecipe",
    "LearningRates",
    "LinearOptimiser",
    "LinearRecipe",
    "Optimiser",
    "PretrainRecipe",
    "Recipe",
]


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """What the `optimiser` sections have in common: SGD, Adam or AdamW, and the learning rate by epoch or step.

    `momentum` is SGD's momentum or the first beta of Adam and AdamW, `beta2` the second. Weight decay acts on
    every parameter: SGD and Adam add it to the gradient, AdamW shrinks the weights (Loshchilov & Hutter 2019).

    In the first `warmup` epochs the rate rises linearly to `lr`. Then, with `schedule` "steps", it is divided by
    10 after each epoch of `milestones`; with "cosine" it falls to `min_lr` at the end of the run along half a
    cosine (Loshchilov & Hutter 2017, eq. 5, without restarts). Rise and cosine move on once `per` epoch, or once
    per step of the optimiser.
    """

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Amount = 0.1
    momentum: Share = 0.9
    beta2: Share = 0.999
    weight_decay: Amount = 1e-4
    warmup: Whole = 0
    milestones: list[Count] = field(default_factory=lambda: [250])
    schedule: str = "steps"
    per: Literal["epoch", "step"] = "epoch"
    min_lr: Amount = 0.0

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the `key=value` that takes it away."""
        schedule, name = f"schedule={self.schedule}", f"name={self.name}"
        unused = {} if self.schedule == "plateau" else dict.fromkeys(STALLS, schedule)
        if self.schedule == "steps":
            unused |= {"schedule": "", "min_lr": schedule}  # files had no schedule before there were others
        if self.schedule == "cosine":
            unused["milestones"] = schedule
        elif not self.warmup:
            unused["per"] = f"warmup=0 and {schedule}"
        if self.name != "adam":  # files of earlier versions have Nesterov's momentum beside Adam
            unused["beta2" if self.name == "sgd" else "nesterov"] = name
        return {key: reason for key, reason in unused.items() if hasattr(self, key)}

    def check(self, where: str) -> None:
        """Raise UsageError, which names `where`, for a value that has no effect and is not at its default."""
        for key, reason in self.without_effect().items():
            try:
                refuse_unused("optimiser", self, (key,), reason)
            except UsageError as error:
                raise UsageError(f"{where}: {error}") from None

    def content(self) -> dict[str, Any]:
        """Return the values that have an effect."""
        unused = self.without_effect()
        return {key: value for key, value in asdict(self).items() if key not in unused}


STALLS = ("factor", "patience", "threshold", "cooldown")


@dataclass(frozen=True, kw_only=True)
class Optimiser(LearningRates):
    """The `optimiser` section of pre-training. A step follows the mean gradient of `accumulate` batches.

    With `schedule` "plateau" the rate of "steps" is also multiplied by `factor`, down to `min_lr` at least,
    whenever the mean loss of an epoch has not been lower than the lowest times 1 - `threshold` for more than
    `patience` epochs; the next `cooldown` epochs do not count. These are the rules and the defaults of PyTorch's
    ReduceLROnPlateau.
    """

    accumulate: Count = 1
    schedule: Literal["steps", "plateau", "cosine"] = "steps"
    factor: Share = 0.1
    patience: Whole = 10
    threshold: Amount = 1e-4
    cooldown: Whole = 0


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(MethodRecipe):
    """Pre-training without labels by `method`. The defaults are those of SkeletonCLR, as AimCLR restates them.

    `reported` is the name by which the papers' tables (`train/papers`) know the recipe. It is empty for a recipe
    of one's own, of which no paper has figures, and plays no part in comparisons.
    """

    kind: ClassVar[Kind] = "pretraining"
    frames: Annotated[Integer, at_least(2)] = 50
    epochs: Count = 300
    batch_size: Count = 128
    optimiser: Optimiser = field(default_factory=Optimiser)
    reported: str = ""

    @described_safely
    def __repr__(self) -> str:
        own = {} if self.settings is None else {self.method: asdict(type(self.settings)())}
        return f"<PretrainRecipe {recipe_text(self.content(), _defaults(self) | own)}>"

    def content(self) -> dict[str, Any]:
        """Return all values with their sections, as a file has them; `reported` is left out."""
        values = {**asdict(self), "optimiser": self.optimiser.content()}
        own = values.pop("settings")
        values |= {key: own.pop(key) for key in top_keys(type(self.settings))}
        others = [key for key in values if key not in (*_ORDER, "views", "plugins", "reported")]  # of a plug-in
        content = {key: values[key] for key in (*_ORDER, *others) if key in values}
        content |= {key: values[key] for key in ("views", "plugins") if values[key]}
        return content | ({self.method: own} if own else {})

    def operators(self, where: str = "recipe") -> "dict[str, tuple[Chosen, ...]]":
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
    views: dict[str, Any] = field(default_factory=dict)
    encoder: BackboneSettings | None = None
    balanced: Flag = False
    plugins: list[str] = field(default_factory=list)
    reported: str = ""

    @described_safely
    def __repr__(self) -> str:
        return f"<FinetuneRecipe {recipe_text(self.content(), _defaults(self))}>"

    def content(self) -> dict[str, Any]:
        """Return all values with their sections, as a file has them; `reported` is left out."""
        values = {**_without_default(asdict(self)), "optimiser": self.optimiser.content()}
        del values["reported"]
        return {key: value for key, value in values.items() if value is not None}

    def operators(self, where: str = "recipe") -> "dict[str, tuple[Chosen, ...]]":
        """Return the operators of the one view, `clip`; UsageError, which names `where`, if they are wrong."""
        from skelpipe.augment.op_lists import check_views
        from skelpipe.augment.operators import Strength

        strength = Strength(self.augment.shear, self.augment.crop)
        return check_views(self.views, {CLIP: self.augment.ops}, strength, where)


@dataclass(frozen=True, kw_only=True)
class LinearOptimiser(LearningRates):
    """The `optimiser` section of linear evaluation; SGD is without Nesterov."""

    lr: Amount = 3.0
    weight_decay: Amount = 0.0
    milestones: list[Count] = field(default_factory=lambda: [80])
    schedule: Literal["steps", "cosine"] = "steps"


@dataclass(frozen=True, kw_only=True)
class LinearRecipe:
    """Training of a linear classifier on frozen features, tested every `test_every` epochs.

    With `balanced` an epoch has all classes equally often (see `skelpipe.loader.sampling`), with `standardise` all
    features are of comparable size (see `skelpipe.train.evaluation.standard_features`). The defaults are those of
    AimCLR (Guo et al. 2022, "Experimental Settings").
    """

    kind: ClassVar[Kind] = "linear evaluation"
    protocol: Literal["linear"] = "linear"
    epochs: Count = 100
    batch_size: Count = 128
    test_every: Count = 5
    optimiser: LinearOptimiser = field(default_factory=LinearOptimiser)
    balanced: Flag = False
    standardise: Flag = False

    @described_safely
    def __repr__(self) -> str:
        return f"<LinearRecipe {recipe_text(self.content(), _defaults(self))}>"

    def content(self) -> dict[str, Any]:
        """Return all values with their sections, as a file has them."""
        return {**_without_default(asdict(self)), "optimiser": self.optimiser.content()}


def _defaults(recipe: "Recipe") -> dict[str, Any]:
    """Return what a file may leave out."""
    return {**type(recipe)().content(), "optimiser": asdict(type(recipe.optimiser)())}


def _without_default(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys where they say nothing, as files had it before the keys existed."""
    return {
        key: value
        for key, value in values.items()
        if key not in ("balanced", "standardise", "views", "plugins") or value
    }


Recipe: TypeAlias = PretrainRecipe | FinetuneRecipe | LinearRecipe
