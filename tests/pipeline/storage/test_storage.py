"""Places: what URLs mean, files appear whole or not at all, and secrets stay out of every text."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.storage import open_filesystem, shown_url
from skelpipe.storage.filesystem import LocalFilesystem

SECRET = "SECRETsecret/with+signs"
QUOTED = "SECRETsecret%2Fwith%2Bsigns"


@pytest.fixture(autouse=True)
def no_network(monkeypatch) -> None:
    for name, value in {"AWS_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)


def test_a_folder_is_a_place_by_path_and_by_url(tmp_path) -> None:
    folder = tmp_path / "with space"
    for url in (
        folder,
        str(folder),
        f"file://{tmp_path}/with%20space",
        f"file://localhost{tmp_path}/with%20space",
    ):
        place = open_filesystem(url)
        assert place.is_local
        assert place.local_path == folder
        assert str(place) == str(folder)


def test_files_of_a_folder(tmp_path) -> None:
    place = open_filesystem(tmp_path / "new" / "deep")
    assert place.names() == []
    assert place.size("train/a") is None
    place.write("train/a", (bytes([byte]) * 3 for byte in b"abcd"))
    place.child("train").child("b").write("c", [])
    assert (tmp_path / "new/deep/train/a").read_bytes() == b"aaabbbcccddd"
    assert place.names() == ["train/a", "train/b/c"]
    assert place.child("train").names() == ["a", "b/c"]
    assert place.size("train/a") == 12
    assert place.size("train") is None
    assert list(place.stream("train/a", 5)) == [b"aaabb", b"bcccd", b"dd"]
    assert place.read("train/b/c") == b""
    place.remove("train/a")
    assert place.names() == ["train/b/c"]


@pytest.mark.parametrize("before", [None, b"as before"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, before) -> None:
    place = open_filesystem(tmp_path)
    if before is not None:
        (tmp_path / "a").write_bytes(before)

    def pieces():
        yield b"half"
        raise KeyError("the source failed")

    with pytest.raises(KeyError):
        place.write("a", pieces())
    assert place.names() == ([] if before is None else ["a"])
    assert before is None or place.read("a") == before


@given(name=st.lists(st.sampled_from(["..", ".", "", "a", "~", "b c"]), min_size=1, max_size=4).map("/".join))
def test_a_name_never_leads_out_of_its_place(tmp_path, name) -> None:
    """An accepted name is what the path's own arithmetic keeps inside, written the one way."""
    place = open_filesystem(tmp_path / "inside")
    plain = all(part in ("a", "~", "b c") for part in name.split("/"))
    for deed in (place.size, place.child):
        if plain:
            deed(name)
        else:
            with pytest.raises(UsageError, match="is no name of a file within"):
                deed(name)
    if plain:
        assert Path(os.path.normpath(tmp_path / "inside" / name)).is_relative_to(tmp_path / "inside")


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "a\0b"])
def test_every_method_checks_names(tmp_path, name) -> None:
    bucket = open_filesystem("s3://bucket/ds?endpoint_override=127.0.0.1:1")
    for place in (open_filesystem(tmp_path), bucket):
        deeds = (place.read, lambda n, p=place: list(p.stream(n)), place.size, place.remove, place.child)
        for deed in (*deeds, lambda n, p=place: p.write(n, [b""])):
            with pytest.raises(UsageError, match="is no name of a file within"):
                deed(name)


def test_errors_of_a_folder_name_the_file(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = open_filesystem(tmp_path)
    with pytest.raises(SkelpipeError, match=r"/none/a: cannot be read: No such file or directory$"):
        place.read("none/a")
    with pytest.raises(SkelpipeError, match=r"/none: cannot be read: No such file"):
        list(place.stream("none"))
    with pytest.raises(SkelpipeError, match=r"/none: cannot be removed: No such file"):
        place.remove("none")
    with pytest.raises(SkelpipeError, match=r"/file/a: cannot be written: (Not a directory|File exists)"):
        place.write("file/a", [b""])
    with pytest.raises(UsageError, match=r"/file: is a file, not a folder"):
        open_filesystem(tmp_path / "file").names()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path) -> None:
    """A limit on the size of files stands for a disk without room: the kernel refuses a write half way."""
    code = f"""
import resource
from skelpipe.errors import SkelpipeError
from skelpipe.storage import open_filesystem
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    open_filesystem({str(tmp_path)!r}).write("a", [bytes(3000)] * 3)
except SkelpipeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{tmp_path}/a: cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/data/ds", "s3://bucket/data/ds"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket/a%20b/?region=us-east-1&anonymous=true", "s3://bucket/a b"),
        (f"s3://AKIA:{QUOTED}@bucket/ds?endpoint_override=host:9000&scheme=http", "s3://bucket/ds"),
        ("gs://bucket/ds?endpoint_override=127.0.0.1:1&scheme=http&anonymous=true", "gs://bucket/ds"),
    ],
)
def test_urls_of_buckets(url, shown) -> None:
    place = open_filesystem(url)
    assert not place.is_local
    assert str(place) == shown
    assert str(place.child("train")) == f"{shown}/train"
    with pytest.raises(UsageError, match="a local folder is needed"):
        _ = place.local_path


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "an empty name"),
        (f"ftp://me:{QUOTED}@host/a", r"^ftp:// is not known here; known places are a folder, file://, s3://"),
        (f"me:{QUOTED}@host://a", "known places are"),
        ("file://folder/a", "absolute path"),
        ("s3:///ds", "s3://BUCKET/PREFIX"),
        (f"s3://AKIA:{SECRET}@bucket/ds", "%2F"),
        (f"s3://AKIA:{SECRET.replace('/', '?')}@bucket/ds", "%2F"),
        (f"s3://AKIA:{SECRET.replace('/', '#')}@bucket/ds", "%2F"),
        ("s3://[bucket/ds", "cannot be read"),
        ("s3://bucket/a/../b", "is no name"),
        ("s3://bucket/a//b", "is no name"),
        (f"s3://bucket/ds?X-Amz-Signature={QUOTED}", r"no option X-Amz-Signature; there are: anonymous, endpoint"),
        (f"s3://bucket/ds?{QUOTED}", r"\?NAME=VALUE"),
        ("s3://bucket/ds?anonymous=maybe", "true or false"),
        ("s3://bucket/ds?scheme=ftp", "http or https"),
        ("gs://bucket/ds?region=eu", "no option region"),
        (f"gs://me:{QUOTED}@bucket/ds", "come from the environment"),
    ],
)
def test_urls_that_are_refused_are_not_repeated_with_their_secrets(url, message) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_filesystem(url)
    assert "SECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown", "stripped"),
    [
        ("data/ds", "data/ds", False),
        ("file:///data/ds", "/data/ds", False),
        (
            "s3://lab/a%3Fb?endpoint_override=h:9&scheme=http",
            "s3://lab/a%3Fb?endpoint_override=h:9&scheme=http",
            False,
        ),
        ("s3://KEY:SECRET@lab/ds?region=eu", "s3://lab/ds?region=eu", True),
        ("s3://lab/ds?endpoint_override=u:SECRET@h", "s3://lab/ds", True),
        ("https://h:8/ds", "https://h:8/ds", False),
        ("https://u:SECRET@h/ds?sig=SECRET", "https://h/ds", True),
    ],
)
def test_a_url_to_show_works_again_but_for_its_secrets(url, shown, stripped) -> None:
    assert shown_url(url) == (shown, stripped)


def test_pyarrow_is_loaded_for_buckets_only(tmp_path) -> None:
    code = f"""
import sys
from skelpipe.storage import open_filesystem
open_filesystem({str(tmp_path)!r}).names()
print("pyarrow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def test_only_storage_takes_urls_apart() -> None:
    """What is allowed to look into a URL decides what can leak."""
    folder = Path(sys.modules[LocalFilesystem.__module__].__file__).parent
    parsers = {
        path.name for path in folder.rglob("*.py") if re.search(r"urllib\.parse|from_uri", path.read_text())
    }
    assert parsers == {"http.py", "storage.py"}


def test_files_have_the_permissions_others_get(tmp_path) -> None:
    open_filesystem(tmp_path).write("a", [b""])
    (tmp_path / "plain").write_bytes(b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "plain")}
    assert len(modes) == 1
