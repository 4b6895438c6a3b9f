"""Operators in one line: their name in lists, and every setting."""

from typing import Any

import pytest

from skelpipe.augment.chain import chain
from skelpipe.augment.op_texts import op_text
from skelpipe.augment.operators import OPERATORS
from skelpipe.settings import nested
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


class Own:
    def sample(self, draws: Any, shape: Any) -> dict[str, Any]:
        return {}

    def apply(self, x: Any, params: Any) -> Any:
        return x


class OwnWithText(Own):
    def __repr__(self) -> str:
        return "mine at 3"


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - {"skelemix"}))
def test_an_operator_tells_the_settings_that_lists_may_give(name: str) -> None:
    (op,) = chain([name], layout=KINECT).ops
    values = nested(OPERATORS[name].settings())
    text = op_text(op)
    assert text.startswith(f"{name}(")
    told = {part.partition("=")[0] for part in text[len(name) + 1 : -1].split(", ")} if values else set()
    assert told >= set(values)
    for key, value in values.items():
        if isinstance(value, int | float | str):
            assert f"{key}={value}" in text


def test_a_mixed_region_is_told() -> None:
    (op,) = chain([{"skelemix": {"parts": [1, 2], "blocks": [3, 4]}}], layout=KINECT).ops
    assert op_text(op) == "skelemix(parts=(1, 2), blocks=(3, 4), per=batch)"


def test_operators_of_ones_own_are_named() -> None:
    assert op_text(Own()) == "Own()"
    assert op_text(OwnWithText()) == "mine at 3"
