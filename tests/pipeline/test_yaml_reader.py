"""YAML that people write: safe values, no key twice, and messages that name file, line and key."""

import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis.strategies import DataObject, data, integers, sampled_from

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


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(10 * [f'*{before}'])}]\n" for before, name in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, r"here:6: is no YAML: there are more than 250,000 values, with its aliases"),
        ("a: &a [*a]", r"here:1: is no YAML: the alias 'a' stands for what contains it"),
        ("a: &a {b: {c: *a}}", r"here:1: is no YAML: the alias 'a' stands for what contains it"),
        ("[" * 300, r"here:1: is no YAML: values are nested more than 32 deep"),
        ("".join(f"{' ' * n}a:\n" for n in range(99)), r"here:32: is no YAML: values are nested more than 32"),
        ("a" * (8 << 20) + "a", r"here: is longer than 8 MB"),
        ("\na: 2001-02-30", r"here:2: is no YAML: '2001-02-30' is no timestamp"),
        ("a: !!bool maybe", r"here:1: is no YAML: 'maybe' is no bool"),
        ("a: !!int ''", r"here:1: is no YAML: '' is no int"),
        ("a: !!timestamp soon", r"here:1: is no YAML: 'soon' is no timestamp"),
        ("a: " + "9" * 5000, r"here:1: is no YAML: the number '9+\.\.\. has more than 100 characters"),
        ("a: 0" + "1" * 3000, r"here:1: is no YAML: the number '01+\.\.\. has more than 100 characters"),
        ("a: 1_" + "1" * 3000 + ".5", r"here:1: is no YAML: the number '1_1+\.\.\. has more than 100 characters"),
        # Numbers of base 60: PyYAML adds up their digits one by one, in time that grows with the square.
        ("a: 1" + ":1" * 1_000_000, r"here:1: is no YAML: the number '1:1.+\.\.\. has more than 100 characters"),
        ("a: !!int '1" + ":1" * 1_000_000 + "'", r"here:1: is no YAML: the number '1:1.+ has more than 100"),
        ("a: 1" + ":1" * 1000 + ".5", r"here:1: is no YAML: the number '1:1.+\.\.\. has more than 100 characters"),
        ("a: -9223372036854775808", r"here:1: is no YAML: the number -9223372036854775808 is beyond 64 bits"),
        ("%YAML " + "9" * 5000 + ".1\n--- a", r"here:1: is no YAML: found extremely long version number"),
        ("a: !!map [b]", r"here:1: is no YAML: expected a mapping node"),
        ("~: 1", r"here:1: is no YAML: a key is a text or a number, not nothing"),
        ("2001-01-01: 1", r"here:1: is no YAML: a key is a text or a number, not datetime"),
        ("? [b]\n: 1", r"here:1: is no YAML: a key is a text or a number, not \['b'\]"),
        ("1: a\n'1': b", r"here:2: is no YAML: the key '1' is given twice"),
        (
            "a: !" + "x" * 5000 + " b",
            r"here:1: is no YAML: could not determine a constructor for the tag '!x+\.\.\.",
        ),
        ("a: !!python/object/apply:os.getcwd []", r"here:1: is no YAML: could not determine a constructor"),
    ],
)
def test_nothing_hangs_grows_or_ends_in_a_traceback(text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(UsageError, match=f"^{message}[^\n]*$") as caught:
        parse_yaml(text, "here")
    assert len(str(caught.value)) < 250
    assert time.process_time() - start < 5


def test_limits_are_far_from_what_files_hold() -> None:
    ids = ", ".join(f"S{n:06}" for n in range(20_000))
    assert len(parse_yaml(f"train: [{ids}]", "here")["train"]) == 20_000
    assert parse_yaml(f"a: 0b{'1' * 63}\nb: 1.{'7' * 90}", "here") == {"a": 2**63 - 1, "b": 1 + 7 / 9}
    assert parse_yaml("a: 9223372036854775807\nb: &b {c: 1}\nd: [*b, *b]", "here")["d"] == [{"c": 1}, {"c": 1}]


PIECES = ["&a ", "*a", "[", "]", "{", "? ", ": ", "!!int ", "- ", "<<: ", "\t", "'", "|", "%"]


@settings(deadline=None, max_examples=60)
@given(data())
def test_a_mutated_file_is_read_or_refused(chosen: DataObject) -> None:
    text = manifests.read_text("layouts", "kinect-v2-25")[:1500]
    for _ in range(chosen.draw(integers(1, 4))):
        at = chosen.draw(integers(0, len(text)))
        piece = chosen.draw(sampled_from(PIECES))
        text = text[:at] + piece + text[at + chosen.draw(integers(0, 3)) :]
    with suppress(UsageError):
        parse_yaml(text, "here")


@pytest.mark.parametrize("kind", ["datasets", "layouts", "recordings"])
def test_built_in_facts_hold_no_key_twice(kind: str) -> None:
    assert manifests.names(kind)
    for name in manifests.names(kind):
        assert isinstance(parse_yaml(manifests.read_text(kind, name), name), dict)
