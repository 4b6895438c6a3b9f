"""`skelpipe.prepare` as a function: the command's options, its defaults, its errors, and the same dataset."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import skelpipe
from skelpipe.cli.prepare import prepare as command
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, Outcome, prepare, prepare_dataset
from skelpipe.prepare.request import CHOICES

NOT_ASKED = {"dry_run", "check", "check_out", "as_json", "plugin"}  # of the command: they prepare nothing
RENAMED = {"name": "dataset", "container": "format"}


@pytest.fixture(scope="module")
def raw(
    tmp_path_factory: pytest.TempPathFactory,
    skeleton_text: Callable[..., str],
    moving_bodies: Callable[..., Any],
    ntu_names: Callable[..., list[str]],
) -> Path:
    folder: Path = tmp_path_factory.mktemp("raw")
    for seed, name in enumerate(ntu_names(actions=1, subjects=(1, 3))):
        (folder / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 9, 1)))
    return folder


def test_it_has_the_options_of_the_command_with_their_defaults() -> None:
    parameters = dict(inspect.signature(prepare_dataset).parameters)
    del parameters["quiet"]
    parsed = command.make_context("prepare", ["--dataset", "ntu60", "--split", "xsub"]).params
    values = {RENAMED.get(name, name): value for name, value in parsed.items() if name not in NOT_ASKED}
    assert set(parameters) == set(values)
    for name in set(values) - {"dataset", "split", "workers"}:  # needed there, or as many as cores
        assert parameters[name].default == values[name], name
    for option in command.params:
        if isinstance(option.type, click.Choice):
            assert set(option.type.choices) == set(CHOICES[RENAMED.get(str(option.name), option.name)]) - {None}


def test_it_writes_the_dataset_of_the_command_and_opens_it(raw: Path, tmp_path: Path) -> None:
    outcome = prepare(load_manifest("ntu60"), [raw], tmp_path / "a", Options("xsub", 10, 2, 3), quiet=True)
    how: dict[str, Any] = {"split": "xsub", "frames": 10, "shard_size": 3, "workers": 1, "quiet": True}
    for given in (raw, [str(raw)]):
        with pytest.warns(UserWarning, match="bodies") if given is raw else pytest.MonkeyPatch.context():
            found = skelpipe.prepare("ntu60", raw=given, out=tmp_path / "b", **how)
        assert isinstance(found, skelpipe.Dataset)
        assert found.path == tmp_path / "b"
        assert found.digest == outcome.card["digest"]


def test_called_with_a_manifest_it_is_what_it_was(raw: Path, tmp_path: Path) -> None:
    called: Any = skelpipe.prepare
    found = called(load_manifest("ntu60"), [raw], tmp_path / "a", Options("xsub", 10, 2, 3), quiet=True)
    assert isinstance(found, Outcome)
    assert found.card["digest"] == skelpipe.Dataset.open(tmp_path / "a").digest


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"split": None}, "split is one of xsub, xview"),
        ({"split": "xset"}, "there are: xsub, xview"),
        ({"frames": 1}, "frames is 1; it must be a whole number, at least 2"),
        ({"frames": "64"}, "frames is '64'"),
        ({"workers": 0}, "workers is 0"),
        ({"profile": "x"}, "it can be: crosclr, ctrgcn"),
        ({"format": "zip"}, "it can be: shards, hdf5, both"),
        ({"missing_joints": "x"}, "None, refused, held, interpolated, parent"),
        ({"raw": 5}, "a folder or an archive, or a list of them, not 5"),
        ({"raw": "nowhere"}, "no such folder or archive"),
        ({"out": 5}, "out, a path, is expected"),
        ({"engine": "dask"}, "--engine dask and --scheduler"),
        ({"work": "scratch"}, "--work is for --out URL"),
        ({"dataset": "ntu61"}, "ntu60, nw-ucla"),
        ({"dataset": None}, "the name of a dataset, or its YAML file, is expected, not None"),
    ],
)
def test_mistakes_are_answered_in_a_line(more: dict[str, Any], what: str, raw: Path, tmp_path: Path) -> None:
    given = {
        "dataset": "ntu60",
        "split": "xsub",
        "raw": str(raw),
        "out": str(tmp_path / "ds"),
        "workers": 1,
        **more,
    }
    with pytest.raises(SkelpipeError) as caught:
        skelpipe.prepare(given.pop("dataset"), **given)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UsageError)
    assert not (tmp_path / "ds").exists()
