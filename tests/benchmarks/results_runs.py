"""The runs behind RESULTS.md: every method, how it is trained, and how it is evaluated.

Settings differ from a recipe's where that is meant for a hundred times as many clips. None was chosen by its
figures on test clips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from skelpipe.dataset import Dataset
from skelpipe.train.reproduction.work_plan import FUSE, MAP, PRETRAIN, Command, WorkPlan

__all__ = [
    "BEST",
    "DATASETS",
    "EPOCHS",
    "EQUAL_TIME",
    "FRAMES",
    "FUSED_SEED",
    "LONG",
    "METHODS",
    "SEEDS",
    "TITLES",
    "TRANSFERRED",
    "VIEWS",
    "Results",
    "key",
]

FRAMES: Final = 48
SEEDS: Final = (0, 1, 2)
FUSED_SEED: Final = 1  # of bone, motion and the fusion
VIEWS: Final = ("joint", "bone", "motion")
# The name and the frames of each dataset. Those with 25 joints and msr-v1 are prepared by the plug-in of
# docs/examples/transfer; the released encoder takes 50 frames of two bodies.
DATASETS: Final[Mapping[str, tuple[str, int]]] = {
    "ucla": ("nw-ucla-xview", FRAMES),
    "msr": ("msr-action3d-xsub", FRAMES),
    "msr-v1": ("msr-action3d-v1-xsub", FRAMES),
    "synthetic": ("ntu60-xview", FRAMES),
    "ucla-25": ("nw-ucla-25-xview", FRAMES),
    "msr-25": ("msr-action3d-25-xsub", FRAMES),
    "ucla-25-50": ("nw-ucla-25-xview", 50),
    "msr-25-50": ("msr-action3d-25-xsub", 50),
}
TITLES: Final[Mapping[str, str]] = {"ucla": "Northwestern-UCLA", "msr": "MSR-Action3D"}

NETWORK: Final[Mapping[str, object]] = {
    "frames": FRAMES,
    "encoder.width": 8,
    "encoder.out_channels": 128,
    "encoder.dropout": 0.0,
    "head.hidden": 128,
    "head.dim": 128,
}
# Of every method: Adam, since SGD at 0.1 collapses in so few steps; key networks that follow within an epoch of 32
# steps; a queue of a quarter of the clips, since a larger one would hold a clip's own keys as negatives; PyTorch's
# initial weights, from which SkeletonCLR learns far faster than from the papers' (RESULTS.md).
COMMON: Final[Mapping[str, object]] = {
    "init": "default",
    "optimiser.name": "adam",
    "optimiser.lr": 0.001,
    "temperature": 0.1,
    "momentum": 0.99,
}
QUEUES: Final[Mapping[str, int]] = {"ucla": 256, "msr": 64, "msr-v1": 64, "synthetic": 256}
# Mixed regions cover the same share of 12 blocks as in the papers of 16.
MIXED: Final[Mapping[str, object]] = {"skelemixclr.blocks": [5, 8]}


@dataclass(frozen=True)
class Method:
    """A recipe and its settings. The keys of `half` get half of the epochs: a second stage begins in the middle.

    With `together` a run trains all views at once. With `moco_first` the first half is a run of its own, since the
    second half has other settings.
    """

    title: str
    recipe: str
    settings: Mapping[str, object] = field(default_factory=dict)
    half: Sequence[str] = ()
    together: bool = False
    moco_first: bool = False


METHODS: Final[Mapping[str, Method]] = {
    "skeletonclr": Method("SkeletonCLR", "skeletonclr"),
    "skelemixclr": Method("SkeleMixCLR", "skelemixclr", MIXED),
    "aimclr": Method("AimCLR", "aimclr", half=["aimclr.mining_epoch"]),
    "msmclr": Method("MsMCLR", "msmclr"),
    # Without its code's predictors, as in section 3.1 of the paper: with them few clips may teach nothing.
    "skeattnclr": Method(
        "SkeAttnCLR",
        "skeattnclr",
        {"skeattnclr.predictors": "none", "skeattnclr.blocks": [3, 5], "head.batch_norm": False},
    ),
    "skelemixclr-plus": Method("SkeleMixCLR+", "skelemixclr-plus", MIXED),
    # The second stage has a bank of all clips, slow keys and no Skeleton AdaIN: docs/actionlets.md.
    "actclr": Method("ActCLR", "actclr", moco_first=True),
    "crosclr": Method("CrosSCLR", "crosclr", half=["crosclr.mining_epoch"], together=True),
    "aimclr-3views": Method(
        "AimCLR, three views", "aimclr", {"aimclr.views": 3}, half=["aimclr.mining_epoch"], together=True
    ),
}
SECOND: Final[Mapping[str, object]] = {
    "momentum": 0.999,
    "actclr.transformations": "[act, non]",
    "actclr.moco_epochs": 0,
}
BANKS: Final[Mapping[str, int]] = {"ucla": 1024, "msr": 288}
BEST: Final = "skelemixclr"  # trained for 300 epochs too
DRAWN: Final = ("raw", "random-default", BEST)  # whose embeddings are drawn
EPOCHS: Final = 100
LONG: Final = 300
# Epochs that take as long as 100 of SkeletonCLR: by processor time of one core, measured on Northwestern-UCLA.
EQUAL_TIME: Final[Mapping[str, int]] = {
    "skelemixclr": 47,
    "aimclr": 47,
    "msmclr": 47,
    "skeattnclr": 39,
    "skelemixclr-plus": 29,
    "actclr": 91,
    "crosclr": 31,
}

# Training with labels: share of labels, epochs. The learning rate falls after three quarters.
LABELS: Final[Mapping[str, int]] = {"1.0": 40, "0.1": 100, "0.01": 200}
PLAIN: Final[Mapping[str, object]] = {"encoder.width": 8, "encoder.out_channels": 128}
TRANSFERRED: Final = ("skeletonclr", BEST)
TRANSFERS: Final = (("ucla", "msr-v1"), ("msr-v1", "ucla"), ("synthetic", "ucla-25"), ("synthetic", "msr-25"))
FUSED: Final = ("knn-z", "linear", "tune-1.0", "tune-0.1", "tune-0.01")


def key(protocol: str, dataset: str, method: str, view: str, seed: int) -> str:
    """Return the name of a command."""
    return f"{protocol}-{dataset}-{method}-{view}-{seed}"


def _set(values: Mapping[str, object], option: str = "--set") -> list[str]:
    return [word for name, value in values.items() for word in (option, f"{name}={_text(value)}")]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass
class Results:
    """The plan of all runs on the datasets that are there, the most telling first.

    With `quick` everything is trained for two epochs: whether each command works. `released` is a checkpoint of
    AimCLR's authors.
    """

    datasets: Mapping[str, Dataset]
    quick: bool = False
    released: str = ""
    plan: WorkPlan = field(default_factory=WorkPlan)

    def __post_init__(self) -> None:
        seeds, (first, *others) = SEEDS, SEEDS
        alone = [name for name, each in METHODS.items() if name != "aimclr-3views"]
        if "ucla" in self.datasets:
            self.baselines("ucla", "joint", seeds)
            for name in alone:
                self.judge("ucla", name, "joint", first)
            self.of_authors(first)
            self.supervised("ucla", "joint", first)
            for name in alone:
                self.tune("ucla", name, "joint", first)
            for seed in others:
                for name in alone:
                    self.judge("ucla", name, "joint", seed)
                    self.tune("ucla", name, "joint", seed)
                self.supervised("ucla", "joint", seed)
            self.transfers(first)
            self.judge("ucla", f"{BEST}@{LONG}", "joint", first)
            self.tune("ucla", f"{BEST}@{LONG}", "joint", first)
            for view in VIEWS[1:]:
                self.baselines("ucla", view, (FUSED_SEED,))
            for name in sorted(METHODS, key=lambda name: name != BEST):
                for view in VIEWS:
                    self.judge("ucla", name, view, FUSED_SEED)
                    self.tune("ucla", name, view, FUSED_SEED)
                self.fuse("ucla", name, FUSED_SEED)
            for view in VIEWS:
                self.supervised("ucla", view, FUSED_SEED)
            self.fuse("ucla", "supervised", FUSED_SEED)
            for name in EQUAL_TIME:
                self.judge("ucla", f"{name}@{EQUAL_TIME[name]}", "joint", first)
        self.transfers(first)
        if "msr" in self.datasets:
            self.baselines("msr", "joint", seeds)
            for seed in seeds:
                for name in alone:
                    self.judge("msr", name, "joint", seed)
                    self.tune("msr", name, "joint", seed)
                self.supervised("msr", "joint", seed)
        for seed in others:
            for name in EQUAL_TIME if "ucla" in self.datasets else ():
                self.judge("ucla", f"{name}@{EQUAL_TIME[name]}", "joint", seed)
            self.transfers(seed)

    def of_authors(self, seed: int) -> None:
        """Evaluate the frozen encoder of AimCLR's authors, and its baselines, on joints mapped to those of NTU."""
        subjects = {"raw": ["--baseline", "raw"], "random-paper": ["--baseline", "random", "--network", "aimclr"]}
        if self.released:
            subjects["released"] = ["--checkpoint", self.released]
        for target in ("ucla-25-50", "msr-25-50"):
            for name, subject in subjects.items() if target in self.datasets else ():
                self._neighbours_and_linear(target, name, "joint", seed, subject, "h")

    def transfers(self, seed: int) -> None:
        """Evaluate encoders that were trained on other clips: frozen, on joints mapped to theirs."""
        for target in ("ucla-25-50", "msr-25-50"):
            if target in self.datasets and seed == SEEDS[0]:
                self._neighbours_and_linear(target, "raw", "joint", seed, ["--baseline", "raw"], "h")
                random = ["--baseline", "random", "--network", "aimclr"]
                self._neighbours_and_linear(target, "random-paper", "joint", seed, random, "h")
                if self.released:
                    self._neighbours_and_linear(
                        target, "released", "joint", seed, ["--checkpoint", self.released], "h"
                    )
        for source, target in TRANSFERS:
            if source in self.datasets and target in self.datasets:
                for name in TRANSFERRED:
                    subject = ["--checkpoint", self.trained(source, name, "joint", seed)]
                    self._neighbours_and_linear(target, f"{name}-from-{source}", "joint", seed, subject)

    def add(self, name: str, module: str, *arguments: str | Dataset | Command) -> Command:
        return self.plan.add(Command(name, module, arguments))

    def epochs(self, wanted: int) -> int:
        return min(wanted, 2) if self.quick else wanted

    def common(self, dataset: str, view: str, seed: int) -> list[str | Dataset]:
        return ["--shards", self.datasets[dataset], "--view", view, "--seed", str(seed), "--device", "cpu"]

    def trained(self, dataset: str, name: str, view: str, seed: int) -> Command:
        """Return the pre-training of a method for a view, with `@N` in its name for N epochs."""
        plain, _, wanted = name.partition("@")
        method, epochs = METHODS[plain], self.epochs(int(wanted or EPOCHS))
        read = "joint" if method.together else view
        shown = "all" if method.together else view
        where = self.common(dataset, read, seed)
        batch = ["--batch-size", "32", "--knn-every", "10", "--save-every", "5"]

        def given(length: int, drop: int, queue: int, **more: object) -> list[str]:
            """Return the options of a training of some epochs whose learning rate falls after `drop` of them."""
            milestones = f"[{drop}]" if 0 < drop < length else "[]"
            own = {
                **NETWORK,
                **COMMON,
                "queue": queue,
                "optimiser.milestones": milestones,
                **method.settings,
                **more,
            }
            return ["--recipe", method.recipe, *batch, "--epochs", str(length), *_set(own)]

        queue = QUEUES[dataset]
        if not method.moco_first:
            stages = dict.fromkeys(method.half, epochs // 2)
            options = given(epochs, epochs * 4 // 5, queue, **stages)
            return self.add(key(PRETRAIN, dataset, name, shown, seed), PRETRAIN, *where, *options)
        half = epochs // 2
        options = given(half, 0, queue, **{"actclr.moco_epochs": half})
        moco = self.add(key(PRETRAIN, dataset, f"{name}-moco", shown, seed), PRETRAIN, *where, *options)
        rest = epochs - half
        options = given(rest, epochs * 4 // 5 - half, BANKS[dataset], **SECOND)
        run = key(PRETRAIN, dataset, name, shown, seed)
        return self.add(run, PRETRAIN, *where, *options, "--checkpoint", moco)

    def judge(self, dataset: str, name: str, view: str, seed: int) -> None:
        """Evaluate a method without changing its network."""
        subject = ["--checkpoint", self.trained(dataset, name, view, seed)]
        self._neighbours_and_linear(dataset, name, view, seed, subject)

    def _neighbours_and_linear(
        self, dataset: str, name: str, view: str, seed: int, subject: Sequence[str | Command], features: str = "zh"
    ) -> None:
        common = [*self.common(dataset, view, seed), *subject]
        for kind in features:
            options = ["--features", kind, "--k", "1,5,20"]
            self.add(key(f"knn-{kind}", dataset, name, view, seed), "knn", *common, *options)
        # Standardised, or the features of random encoders would teach nothing.
        self.add(key("linear", dataset, name, view, seed), "linear", *common, "--recipe", "linear-standardised")
        if name in DRAWN and (dataset, view, seed) == ("ucla", "joint", SEEDS[0]):
            kind = features[0]
            self.add(key(MAP, dataset, name, view, seed), MAP, *common, "--features", kind)

    def baselines(self, dataset: str, view: str, seeds: Sequence[int]) -> None:
        """Evaluate raw coordinates and random networks, with the initial weights of the papers and of PyTorch."""
        self._neighbours_and_linear(dataset, "raw", view, seeds[0], ["--baseline", "raw"], "h")
        for init in ("paper", "default"):
            for seed in seeds:
                network = ["--baseline", "random", *_set({**NETWORK, "init": init}, "--network-set")]
                self._neighbours_and_linear(dataset, f"random-{init}", view, seed, network)

    def shares(self, dataset: str) -> list[str]:
        """Return the shares of labels: a hundredth of MSR-Action3D's clips would be less than one."""
        return [share for share in LABELS if not (dataset == "msr" and share == "0.01")]

    def tune(self, dataset: str, name: str, view: str, seed: int) -> None:
        """Train all of a pre-trained network with all, a tenth and a hundredth of the labels."""
        start = ["--checkpoint", self.trained(dataset, name, view, seed)]
        for share in self.shares(dataset):
            self._labels(share, dataset, name, view, seed, [*start, *_set({"augment.name": "normal"})])

    def supervised(self, dataset: str, view: str, seed: int) -> None:
        """Train from scratch with as many labels, with and without augmentation; also a network twice as wide."""
        for name, augment in (("supervised", "normal"), ("supervised-plain", "none")):
            for share in self.shares(dataset):
                options = _set({**PLAIN, "augment.name": augment})
                self._labels(share, dataset, name, view, seed, options)
        if view == "joint":
            self._labels("1.0", dataset, "supervised-wide", view, seed, _set({"augment.name": "normal"}))

    def _labels(
        self, share: str, dataset: str, name: str, view: str, seed: int, options: Sequence[str | Command]
    ) -> None:
        epochs = self.epochs(LABELS[share])
        drop = _set({"optimiser.milestones": f"[{max(epochs * 3 // 4, 1)}]"})
        how = [
            "--recipe",
            "supervised-small",
            "--labels",
            share,
            "--epochs",
            str(epochs),
            *drop,
            "--test-every",
            "0",
        ]
        name = key(f"tune-{share}", dataset, name, view, seed)
        self.add(name, "finetune", *self.common(dataset, view, seed), *how, *options)

    def fuse(self, dataset: str, name: str, seed: int) -> None:
        """Fuse the scores of the three views."""
        for protocol in FUSED:
            runs = [self.plan.commands.get(key(protocol, dataset, name, view, seed)) for view in VIEWS]
            if all(runs):
                self.add(key(f"{FUSE}-{protocol}", dataset, name, "3s", seed), FUSE, *(run for run in runs if run))
