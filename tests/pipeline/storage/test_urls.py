"""What URLs mean, which are refused, and that no text shows their secrets."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from skelpipe import storage
from skelpipe.errors import UsageError
from skelpipe.storage import open_filesystem, shown_url, url_key

SECRET = "SECRETsecret/with+signs"
QUOTED = "SECRETsecret%2Fwith%2Bsigns"


@pytest.fixture(autouse=True)
def no_network(monkeypatch) -> None:
    for name, value in {"AWS_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)


def test_a_folder_by_path_and_by_url(tmp_path) -> None:
    folder = tmp_path / "with space"
    for url in (
        folder,
        str(folder),
        f"file://{tmp_path}/with%20space",
        f"file://localhost{tmp_path}/with%20space",
    ):
        filesystem = open_filesystem(url)
        assert filesystem.is_local
        assert filesystem.local_path == folder
        assert str(filesystem) == str(folder)


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
    filesystem = open_filesystem(url)
    assert not filesystem.is_local
    assert str(filesystem) == shown
    assert str(filesystem.child("train")) == f"{shown}/train"
    with pytest.raises(UsageError, match="a local folder is needed"):
        _ = filesystem.local_path


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "the name is empty"),
        (f"ftp://me:{QUOTED}@host/a", r"^ftp:// is not supported; supported are a folder, file://, s3://"),
        (f"me:{QUOTED}@host://a", "supported are"),
        ("file://folder/a", "absolute path"),
        ("s3:///ds", "s3://BUCKET/PREFIX"),
        (f"s3://AKIA:{SECRET}@bucket/ds", "%2F"),
        (f"s3://AKIA:{SECRET.replace('/', '?')}@bucket/ds", "%2F"),
        (f"s3://AKIA:{SECRET.replace('/', '#')}@bucket/ds", "%2F"),
        ("s3://[bucket/ds", "cannot be read"),
        ("s3://bucket/a/../b", "is not the name"),
        ("s3://bucket/a//b", "is not the name"),
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


@pytest.mark.parametrize(
    ("variables", "query", "expected"),
    [
        ({}, "", {}),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"},
            "",
            {"endpoint_override": "127.0.0.1:9000", "scheme": "http"},
        ),
        ({"AWS_ENDPOINT_URL": "https://lab/"}, "", {"endpoint_override": "lab", "scheme": "https"}),
        (
            {"AWS_ENDPOINT_URL": "lab:1", "AWS_ENDPOINT_URL_S3": "http://s3:2"},
            "",
            {"endpoint_override": "s3:2", "scheme": "http"},
        ),
        ({"AWS_ENDPOINT_URL": "http://lab:1"}, "?endpoint_override=s3:2", {"endpoint_override": "s3:2"}),
    ],
)
def test_variables_name_the_server_unless_the_url_does(variables, query, expected, monkeypatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made: dict[str, object] = {}
    monkeypatch.setattr("pyarrow.fs.S3FileSystem", lambda **options: made.update(options))
    url = f"s3://bucket/ds{query}"
    before = url_key(url)
    open_filesystem(url)
    assert {name: made[name] for name in ("endpoint_override", "scheme") if name in made} == expected
    for name in variables:
        monkeypatch.setenv(name, "http://another:1")
    assert (url_key(url) == before) == (not variables or bool(query))


def test_pyarrow_is_loaded_for_buckets_only(tmp_path) -> None:
    code = f"""
import sys
from skelpipe.storage import open_filesystem
open_filesystem({str(tmp_path)!r}).names()
print("pyarrow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def test_only_storage_parses_urls() -> None:
    """A module that does not parse a URL cannot show a part of it."""
    folder = Path(storage.__file__).parents[1]
    parsers = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if re.search(r"\burl(split|parse|unsplit|unparse)\b|parse_qs|from_uri", path.read_text())
    }
    assert parsers == {"storage/http.py", "storage/urls.py"}
