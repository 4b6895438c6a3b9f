"""The operators by the names that lists of them use, with their settings, defaults and shorthands.

Names and settings are checked without torch; the operators themselves are imported when one is built.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, make_dataclass
from functools import cache, partial
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from skelpipe.augment import settings as own
from skelpipe.errors import UsageError
from skelpipe.plugins import Table, check_call
from skelpipe.settings import Bounds, Flag, Integer, Number, Share, Text, checked, declared, is_section, nested
from skelpipe.skeleton import Layout
from skelpipe.untrusted import described

if TYPE_CHECKING:
    from skelpipe.augment.fold import Op

__all__ = ["OPERATORS", "Chosen", "Operator", "Strength", "settings_of"]

LAYOUT, PROBABILITY, P = "layout", "probability", "p"
KINDS: Final[Mapping[Any, Any]] = MappingProxyType(
    {
        float: Number,
        int: Integer,
        bool: Flag,
        str: Text,
        tuple[int, int]: Bounds,
        Collection[str]: list[Text],
    }
)


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that a list may name: a class whose parameters are its settings, `probability` as `p`.

    `place` is `module.Class`, in this package, of the operator whose settings these are; that of a plug-in is
    itself the class of its settings. A bare value sets the settings `main`, a list of them where there are
    several. `released` are the settings in which the released code differs from the paper. `most` are the
    greatest values that lists may ask for, above which a strength has no meaning, `joints` the settings that count
    joints, and with 0 in all of `strength`, as with `p` 0, the operator changes nothing.
    """

    parameters: Callable[..., Any]
    place: str = ""
    main: tuple[str, ...] = ()
    released: Mapping[str, Any] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    strength: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()

    @property
    def kind(self) -> "Callable[..., Op]":
        """The class of the operator."""
        module, _, name = self.place.partition(".")
        return getattr(import_module(f"{__package__}.{module}"), name) if name else self.parameters

    @property
    def settings(self) -> type:
        """The dataclass of the settings, with the paper's defaults."""
        return settings_of(self.parameters)

    def check(self, settings: Any) -> None:
        """Raise UsageError for settings that the operator refuses, as far as that needs no layout."""
        if LAYOUT not in inspect.signature(self.parameters).parameters:
            self.parameters(**_arguments(settings))

    def fault(self, settings: Any) -> str:
        """Return what is wrong with settings that somebody wrote: without effect or without meaning."""
        values = nested(settings)
        for key, most in self.most.items():
            if not 0 <= values[key] <= most:
                return f"{key} is {values[key]:g}; it must be between 0 and {most:g}"
        for keys in ((P,) if P in values else (), self.strength):
            if keys and not any(values[key] for key in keys):
                return f"{' and '.join(keys)} 0 changes nothing: leave it out, or say off"
        return ""

    def beyond(self, settings: Any, layout: Layout) -> str:
        """Return what is wrong with settings for a layout: more joints than it has."""
        values = nested(settings)
        return next(
            (
                f"{key} is {values[key]}; {layout.name} has {len(layout)} joints"
                for key in self.joints
                if values[key] > len(layout)
            ),
            "",
        )

    def build(self, settings: Any, layout: Layout | None) -> "Op":
        """Return the operator with these settings. UsageError where it needs a layout and there is none."""
        kind, arguments = self.kind, _arguments(settings)
        if LAYOUT not in inspect.signature(kind).parameters:
            return kind(**arguments)
        if layout is None:
            raise UsageError(
                "this augmentation treats left and right joints differently: it needs the layout of the skeleton"
            )
        return kind(layout, **arguments)


def _arguments(settings: Any) -> dict[str, Any]:
    """Return settings as the parameters of the operator."""
    values = nested(settings)
    if P in values:
        values[PROBABILITY] = values.pop(P)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _accept(name: str, kind: Callable[..., Any], main: tuple[str, ...]) -> Operator:
    """Return the operator of a plug-in."""
    missing = [each for each in ("sample", "apply") if not callable(getattr(kind, each, None))]
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    made = not isinstance(kind, type)  # by a function, whose `sample` and `apply` have no `self`
    for part, arguments in {"sample": ("self", "draws", "shape"), "apply": ("self", "x", "params")}.items():
        check_call(getattr(kind, part), part, *arguments[made:])
    operator = Operator(kind, main=main)
    settings = nested(declared(operator.settings))
    if unknown := [each for each in main if each not in settings]:
        raise ValueError(f"it has no setting {described(unknown[0])}, but: {', '.join(settings) or 'none'}")
    return operator


OPERATORS: Final[Table[Operator]] = Table(
    "operator",
    {
        "crop": Operator(own.CropSettings, "crop.Crop", ("ratio",), most={"ratio": 100}, strength=("ratio",)),
        "shear": Operator(
            own.ShearSettings, "shear.Shear", ("amplitude",), most={"amplitude": 10}, strength=("amplitude",)
        ),
        "centred-shear": Operator(
            own.ShearSettings,
            "centred_shear.CentredShear",
            ("amplitude",),
            most={"amplitude": 10},
            strength=("amplitude",),
        ),
        "spatial-flip": Operator(own.SpatialFlipSettings, "spatial_flip.SpatialFlip", ("p",)),
        "rotate": Operator(
            own.RotateSettings,
            "rotate.Rotate",
            ("main",),
            most={"main": 360, "other": 360},
            strength=("main", "other"),
        ),
        "temporal-flip": Operator(own.TemporalFlipSettings, "temporal_flip.TemporalFlip", ("p",)),
        "noise": Operator(  # empty: divergence noise-on-absent-bodies
            own.GaussianNoiseSettings,
            "gaussian_noise.GaussianNoise",
            ("sd",),
            {"empty": True},
            most={"sd": 10},
            strength=("sd",),
        ),
        "blur": Operator(  # normalise: divergence blur-gain; a filter of 15 frames has no wider bell
            own.GaussianBlurSettings,
            "gaussian_blur.GaussianBlur",
            ("low", "high"),
            {"normalise": False},
            most={"low": 15, "high": 15},
        ),
        "axis-mask": Operator(own.AxisMaskSettings, "axis_mask.AxisMask", ("p",)),
        "joint-mask": Operator(
            own.JointMaskSettings,
            "joint_mask.JointMask",
            ("fewest", "most"),
            strength=("most",),
            joints=("fewest", "most"),
        ),
        "number-mask": Operator(own.NumberMaskSettings, "number_mask.NumberMask", ("share",), strength=("share",)),
        "joint-noise": Operator(
            own.JointNoiseSettings, "joint_noise.JointNoise", ("count",), strength=("count",), joints=("count",)
        ),
        "time-rescale": Operator(
            own.TimeRescaleSettings, "time_rescale.TimeRescale", ("low", "high"), most={"low": 10, "high": 10}
        ),
        "bone-rescale": Operator(
            own.BoneRescaleSettings,
            "bone_rescale.BoneRescale",
            ("strength",),
            most={"strength": 10},
            strength=("strength",),
        ),
        "skelemix": Operator(own.SkeleMixSettings, "skelemix.SkeleMix"),
    },
    _accept,
)


@dataclass(frozen=True, slots=True)
class Strength:
    """What operators have where a list says nothing else: `shear` and `crop`, and the variant's settings."""

    shear: float = 0.5
    crop: int = 6
    released: bool = False

    def settings(self, name: str) -> Any:
        """Return the settings of an operator that is named without any."""
        operator = OPERATORS[name]
        shear = {"amplitude": self.shear}
        normal: dict[str, dict[str, Any]]
        normal = {"crop": {"ratio": self.crop}, "shear": shear, "centred-shear": shear}
        own = normal.get(name, {})
        return operator.settings(**own, **(operator.released if self.released else {}))


@dataclass(frozen=True, slots=True)
class Chosen:
    """An operator of a list, with all its settings; `at` is where it stands, for messages."""

    name: str
    settings: Any
    where: str = field(default="augmentation", compare=False)
    at: str = field(default="", compare=False)

    def tuned(self, value: Any) -> "Chosen":
        """Return it with other settings: a mapping of some, or a value, or a list, for the main ones.

        Raises UsageError that names the file, the key and what is possible.
        """
        operator = OPERATORS[self.name]
        if value is None or value is True:
            return self
        if not is_section(value):
            value = self._main(operator, value)
        settings = checked(operator.settings, value, self.where, self.at, base=self.settings)
        if fault := operator.fault(settings):
            raise UsageError(f"{self.where}: {self.at}: {fault}")
        try:
            operator.check(settings)
        except UsageError as error:
            raise UsageError(f"{self.where}: {self.at}: {error}") from None
        return Chosen(self.name, settings, self.where, self.at)

    def op(self, layout: Layout | None) -> "Op":
        """Return the operator for a layout."""
        operator = OPERATORS[self.name]
        if layout is not None and (fault := operator.beyond(self.settings, layout)):
            raise UsageError(f"{self.where}: {self.at}: {fault}")
        try:
            return operator.build(self.settings, layout)
        except UsageError as error:
            raise UsageError(f"{self.where}: {self.at}: {error}") from None

    def text(self) -> str:
        """Return the operator with all its settings, in one line."""
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in nested(self.settings).items())})"

    def _main(self, operator: Operator, value: Any) -> dict[str, Any]:
        """Return what a value without names sets."""
        main = operator.main
        if len(main) == 1:
            return {main[0]: value}
        if main and isinstance(value, list) and len(value) == len(main):
            return dict(zip(main, value, strict=True))
        names = ", ".join(nested(self.settings))
        wanted = f"[{', '.join(main)}] or " if main else ""
        raise UsageError(
            f"{self.where}: {self.at} is {described(value)}; it must be {wanted}settings by name: {names}"
        )


@cache
def settings_of(kind: Callable[..., Any], without: tuple[str, ...] = (LAYOUT,)) -> type:
    """Return a dataclass of the parameters of an operator, or a function, that are not left out."""
    fields: list[tuple[str, Any, Any]] = []
    for parameter in inspect.signature(kind).parameters.values():
        of = parameter.annotation
        if parameter.name in without:
            continue
        if parameter.name == PROBABILITY:
            fields.append((P, Share, parameter.default))
        elif isinstance(parameter.default, tuple):
            default: Any = field(default_factory=partial(list, parameter.default))
            fields.append((parameter.name, KINDS[of], default))
        else:
            fields.append((parameter.name, KINDS.get(of, of), parameter.default))
    return make_dataclass(getattr(kind, "__name__", "Settings"), fields, frozen=True, kw_only=True)
