"""The settings of methods and backbones, which recipes are checked by before torch is imported."""

from skelpipe.models.build import METHODS
from skelpipe.models.encoders import ENCODERS
from skelpipe.models.settings.tables import BACKBONE_SETTINGS, METHOD_SETTINGS


def test_they_are_those_of_the_methods_and_backbones() -> None:
    assert {name: method.Settings for name, method in METHODS.items()} == METHOD_SETTINGS
    assert {name: backbone.Settings for name, backbone in ENCODERS.items()} == BACKBONE_SETTINGS
