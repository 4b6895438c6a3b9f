"""Errors of a bucket: which are retried, which are final, and what their one line says."""

import pytest

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError

WORDS = "SIGNATURE_TOKEN-EXPIRED-INVALID_-NOT_FOUND-status 403-ACCESS_DENIED-curlCode: 6,"


@pytest.fixture
def s3(server, folder, monkeypatch):
    """Makes the URL of a prefix of the server."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"
    return lambda prefix, bucket="bucket": f"s3://{bucket}/{prefix}?{options}"


def test_words_in_a_key_do_not_count_as_error_codes(s3, server, folder, fault) -> None:
    """A transient error is retried whatever the names of the files are, and the message says what it was."""
    server.serve_folder(folder, f"bucket/{WORDS}")
    card = f"/bucket/{WORDS}/dataset.json"
    busy = [fault("status", 2, method="HEAD"), fault("status", 2)]
    server.faults[card] = busy
    assert len(Dataset.open(s3(WORDS)).ids("train")) == 24
    assert [one.times for one in busy] == [0, 0]
    server.faults[card] = [fault("status", 99, method="HEAD"), fault("status", 99)]
    with pytest.raises(SkelpipeError, match=r"\(HTTP status 503\).*given up after 5 attempts") as caught:
        Dataset.open(s3(WORDS))
    assert "refused" not in str(caught.value)


def test_an_invalid_region_is_reported_at_once(monkeypatch) -> None:
    with pytest.raises(SkelpipeError, match="A region must be set") as caught:
        Dataset.open("s3://bucket/ds?region=no/region&anonymous=true")
    assert "given up" not in str(caught.value)


def test_a_bucket_that_is_missing_is_named(s3, server, folder) -> None:
    server.serve_folder(folder, "bucket/ds")
    with pytest.raises(SkelpipeError, match=r"^s3://elsewhere/ds: there is no bucket elsewhere$"):
        Dataset.open(s3("ds", "elsewhere"))
    with pytest.raises(SkelpipeError, match=r"^s3://bucket/other: no dataset.json here"):
        Dataset.open(s3("other"))


@pytest.mark.parametrize("status", [400, 403])
def test_missing_and_wrong_credentials_differ(s3, server, status, monkeypatch, tmp_path) -> None:
    server.check = lambda _: status
    with pytest.raises(SkelpipeError, match="access is refused, check the credentials and rights: "):
        Dataset.open(s3("ds"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(SkelpipeError, match="access is refused, no credentials were found .*AWS_ACCESS_KEY_ID"):
        Dataset.open(s3("ds"))
