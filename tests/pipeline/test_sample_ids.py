"""Ids of samples: readable, reversible, free of what WebDataset, tar headers and DALI's index forbid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.sample_ids import name_of_sample, sample_id

NAMES = {
    "S001C001P001R001A001": "S001C001P001R001A001",
    "ada-1-squat": "ada-1-squat",
    "P01.S02": "P01%2ES02",
    "train/walk/0001": "train%2Fwalk%2F0001",
    "50%": "50%25",
    "a%2Eb": "a%252Eb",
    "take 1": "take%201",
    "Übung": "Übung",
    "a\u00a0b\n": "a%C2%A0b%0A",
    "x\udcff": "x%FF",  # a file name that is no UTF-8, as Python shows it
}


@pytest.mark.parametrize("name", NAMES)
def test_ids_of_names(name) -> None:
    assert sample_id(name) == NAMES[name]
    assert name_of_sample(NAMES[name]) == name


@given(st.text(), st.text())
def test_every_name_has_an_id_of_its_own_that_gives_it_back(one: str, other: str) -> None:
    identity = sample_id(one)
    assert name_of_sample(identity) == one
    assert not set(identity) & set("./\\ \t\n\0")
    assert identity == "".join(identity.split())
    assert (sample_id(other) == identity) == (one == other)
    identity.encode()  # a tar header and a table take it
