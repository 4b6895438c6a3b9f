"""Files of labels: CSV as spreadsheets save it, and JSON."""

import json

import pytest

from skelpipe.errors import UsageError
from skelpipe.raw.label_table import read_label_table

ROWS = {"a": {"label": 1, "fold": "x"}, "b": {"label": 8, "fold": "y"}}
TEXTS = {
    "commas": "id,label,fold\na,1,x\nb,8,y\n",
    "semicolons": "id;label;fold\na;1;x\n\nb;8;y",
    "tabs": "label\tid\tfold\n1\ta\tx\n8\tb\ty",
    "quotes": '"id", label ,fold\n"a","1",x\nb, 8 ,"y"\n',
    "a list": '[{"id": "a", "label": 1, "fold": "x"}, {"fold": "y", "id": "b", "label": "8"}]',
    "an object": '{"a": {"label": 1, "fold": "x"}, "b": {"label": 8, "fold": "y"}}',
}


@pytest.mark.parametrize("kind", TEXTS)
def test_every_form_gives_the_same_rows(kind) -> None:
    assert read_label_table(TEXTS[kind].splitlines(), "labels", "id") == ROWS


def test_an_object_of_classes() -> None:
    assert read_label_table(['{"a": "walk",', '"b": 3}'], "x", "id") == {"a": {"label": "walk"}, "b": {"label": 3}}


def test_columns_that_nobody_uses_may_hold_anything() -> None:
    row = {"id": "a", "label": 1.0, "fps": 29.97, "box": [1, 2], "by": None, "checked": True}
    found = read_label_table([json.dumps([row])], "x", "id")
    assert found == {"a": {"label": 1, "fps": "29.97", "by": "", "checked": "True"}}
    assert read_label_table(["id,label,subject", "1.0,1.0,2.0"], "x", "id") == {"1.0": {"label": 1, "subject": 2}}


FAULTS = {
    "": "x:1: there is no column 'id'",
    "name,label\na,1": "x:1: there is no column 'id', found 'name,label'",
    "id,label": "x: holds no rows",
    "id,label\na,1,2": "x:2: 2 columns are expected, found 3",
    "id,label\na,1\na,2": "x:3: a is given twice",
    "id,label\n,1": "x:2: the column 'id' is empty",
    "id,id\n1,2": "x:1: a column is named twice",
    "[1]": "x: entry 1: an object with 'id' is expected",
    '[{"id": "a", "label": [1]}]': "x: entry 1: 'label' is neither a text nor a whole number",
    '[{"id": "a", "label": 1.5}]': "x: entry 1: 'label' is neither a text nor a whole number",
    '[{"id": "a", "label": null}]': "x: entry 1: 'label' is neither a text nor a whole number",
    '{"a": 1, "a": 2}': "x: the key 'a' is given twice in one object",
    "{": "x: is no JSON",
    "[" * 5000: "x: is no JSON",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_are_named(text) -> None:
    with pytest.raises(UsageError, match=f"^{FAULTS[text]}"):
        read_label_table(text.splitlines(), "x", "id")
