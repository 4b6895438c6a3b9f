"""YAML that people write: safe values, no key twice, and messages that name file, line and key."""

from pathlib import Path

import pytest

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.yaml_reader import Section, parse_yaml, read_yaml


@pytest.mark.parametrize(
    "text",
    ["a: 1\nb: 2\na: 3\n", "outer:\n  b: 2\n  b: 2\n", "true: 1\nyes: 2\n", "1: a\n1.0: b\n"],
)
def test_a_key_given_twice_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^here:\d: is no YAML: the key .* is given twice"):
        parse_yaml(text, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [010]", r"^here:1: 010 is read as 8; write 10, or '010' in quotes$"),
        ("\n- 0123", r"^here:2: 0123 is read as 83; write 123"),
        ("a: 1_0", r"^here:1: 1_0 is read as 10; write 10"),
        ("a: 1:30", r"^here:1: 1:30 is read as 90; write '1:30' in quotes"),
        ("007: a", r"^here:1: 007 is read as 7; write 7,"),
    ],
)
def test_numbers_that_yaml_reads_otherwise_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_yaml(text, "here")


def test_plain_numbers_and_texts_stay() -> None:
    text = "[0, -1, 10, 0.5, 0x10, 1e-3, '010', S001_a, 1.0e+3, .5, .inf]"
    assert parse_yaml(text, "here") == [0, -1, 10, 0.5, 16, "1e-3", "010", "S001_a", 1000.0, 0.5, float("inf")]


def test_words_of_truth_belong_in_quotes() -> None:
    section = Section(parse_yaml("a: on\nb: [x, off]\n", "here"), "here")
    for read in (lambda: section.text("a"), lambda: section.get("a", str), lambda: section.texts("b")):
        with pytest.raises(UsageError, match="YAML reads on, off, yes and no as true and false; put the word in"):
            read()
    with pytest.raises(UsageError, match="the key 'c' is missing"):
        section.text("c")


def test_merged_keys_may_be_overridden() -> None:
    text = "base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\n"
    assert parse_yaml(text, "here")["mine"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [", r"x\.yaml:1: is no YAML"), (b"\xff", "is no UTF-8 text"), (b"2001-02-30: a", "is no YAML")],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_yaml(path)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"^a\.yaml: unknown key 'splits\.xsub\.tran'; did you mean 'splits\.xsub\.train'"
    ):
        Section({"tran": 1}, "a.yaml: splits.xsub", ("train", "test"))


@pytest.mark.parametrize("kind", ["datasets", "layouts", "recordings"])
def test_built_in_facts_hold_no_key_twice(kind: str) -> None:
    assert manifests.names(kind)
    for name in manifests.names(kind):
        assert isinstance(parse_yaml(manifests.read_text(kind, name), name), dict)
