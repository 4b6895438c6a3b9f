"""The settings of each method and backbone by name; plug-ins add theirs together with the method or backbone."""

from collections.abc import Mapping
from typing import Any, Final

from skelpipe.errors import UsageError
from skelpipe.models.settings.actclr import ActCLRSettings
from skelpipe.models.settings.aimclr import AimCLRSettings
from skelpipe.models.settings.bigru import BIGRUSettings
from skelpipe.models.settings.common import BackboneSettings, ContrastSettings
from skelpipe.models.settings.crosclr import CrosSCLRSettings
from skelpipe.models.settings.dsta import DSTASettings
from skelpipe.models.settings.msmclr import MsMCLRSettings
from skelpipe.models.settings.skeattnclr import SkeAttnCLRSettings
from skelpipe.models.settings.skelemixclr import SkeleMixCLRSettings
from skelpipe.models.settings.stgcn import STGCNSettings
from skelpipe.plugins import Table, suggestion
from skelpipe.settings import checked, is_section
from skelpipe.yaml_reader import nearest

__all__ = ["BACKBONE_SETTINGS", "METHOD_SETTINGS", "backbone_settings"]

_METHODS: Mapping[str, type] = {
    "skeletonclr": ContrastSettings,
    "actclr": ActCLRSettings,
    "crosclr": CrosSCLRSettings,
    "aimclr": AimCLRSettings,
    "msmclr": MsMCLRSettings,
    "skelemixclr": SkeleMixCLRSettings,
    "skeattnclr": SkeAttnCLRSettings,
}
_BACKBONES: Mapping[str, type[BackboneSettings]] = {
    "stgcn": STGCNSettings,
    "bigru": BIGRUSettings,
    "dsta": DSTASettings,
}


def _own(_name: str, kind: Any) -> Any:
    """Return the settings of a method or backbone of a plug-in, whose own table has accepted it."""
    return kind.Settings


METHOD_SETTINGS: Final[Table[type]] = Table("method's settings", _METHODS, _own)
BACKBONE_SETTINGS: Final[Table[type[BackboneSettings]]] = Table("backbone's settings", _BACKBONES, _own)


def backbone_settings(section: Any, where: str) -> BackboneSettings:
    """Return the settings that an `encoder` section describes; ST-GCN's where it names no backbone.

    Raises UsageError for an unknown name or setting and for a value out of range; `where` names the file.
    """
    name = section.get("name", "stgcn") if is_section(section) else "stgcn"
    if name not in BACKBONE_SETTINGS:
        known = f"{nearest(str(name), BACKBONE_SETTINGS)}known: {', '.join(BACKBONE_SETTINGS)}{suggestion()}"
        raise UsageError(f"{where}: encoder.name is {name!r}; {known}")
    return checked(BACKBONE_SETTINGS[name], section, where, "encoder")
