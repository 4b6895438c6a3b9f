"""URLs to filesystems: `open_filesystem` is the only entry. Only this module and `http` parse URLs.

The `str` of a filesystem is its URL without user-info and query: no message, card or log can show a secret of it.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit
from urllib.request import url2pathname

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.storage.bucket import BucketFilesystem, Clients
from skelpipe.storage.filesystem import Filesystem, LocalFilesystem, checked_name, one_line
from skelpipe.storage.http import Address, HttpFilesystem
from skelpipe.storage.retry import CONNECT_SECONDS, SILENT_SECONDS
from skelpipe.untrusted import shown

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["child_url", "local_folder", "open_file", "open_filesystem", "shown_url", "url_key"]

KNOWN = "a folder, file://, s3://, gs:// and http(s)://"
OPTIONS = {
    "s3": {"endpoint_override", "scheme", "region", "anonymous"},
    "gs": {"endpoint_override", "scheme", "anonymous"},
}
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # the first that is set counts
SECRET_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def open_filesystem(url: str | Path) -> Filesystem:
    """Return the filesystem of a folder path or a `file`, `s3`, `gs` or `http(s)` URL; it need not exist yet.

    Options of a bucket are in the query: `s3://bucket/prefix?endpoint_override=127.0.0.1:9000&scheme=http`,
    `region=`, `anonymous=true`; the query of an `http(s)` URL is part of every request. Credentials come from the
    environment, as for the stores' own tools. UsageError for a URL that is not understood; the message does not
    repeat parts that may be secret.
    """
    text = str(url)
    if isinstance(url, Path) or "://" not in text:
        if not text:
            raise UsageError("the name is empty: give a folder or a URL")
        if not isinstance(url, Path) and re.match(r"(?i)(s3|gs|gcs|file|https?):/", text):
            raise UsageError("the URL cannot be read: two slashes follow its scheme")
        return LocalFilesystem(Path(text))
    scheme = text.split("://", 1)[0].lower()
    if scheme == "gcs":
        scheme = "gs"
    if scheme == "file":
        return LocalFilesystem(_file_path(text))
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise UsageError(f"the URL cannot be read; supported are {KNOWN}")
    if scheme in ("http", "https"):
        return _http_filesystem(scheme, text)
    if scheme not in OPTIONS:
        raise UsageError(f"{scheme}:// is not supported; supported are {KNOWN}")
    return _bucket_filesystem(scheme, text)


def open_file(url: str) -> tuple[Filesystem, str]:
    """Return the filesystem of the folder that a file's path or URL names, and the file's name there."""
    if "://" not in url:
        path = Path(url)
        return open_filesystem(path.parent), path.name
    parts = _split(url)
    folder, _, name = parts.path.rpartition("/")
    return open_filesystem(parts._replace(path=folder or "/").geturl()), unquote(name)


def local_folder(url: str | Path, what: str = "") -> Path:
    """Return the folder of a path or `file` URL; UsageError, beginning with `what`, for any other URL."""
    text = str(url)
    scheme = text.split("://", 1)[0].lower() if "://" in text else "file"
    path = open_filesystem(url).local_path if scheme == "file" else None
    if path is None:  # not repeated: a URL may hold secrets
        raise UsageError(f"{what or 'the URL'}: {scheme}:// is remote; only a local folder can be used")
    return path


def _bucket_filesystem(scheme: str, text: str) -> BucketFilesystem:
    """Return the filesystem of a bucket URL. No message repeats user-info or query."""
    parts = _split(text)
    user_info, _, bucket = parts.netloc.rpartition("@")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
        raise UsageError(f"a {scheme}:// URL is {scheme}://BUCKET/PREFIX (a / or ? in a key is written %2F, %3F)")
    key, _, secret = (unquote(part) for part in user_info.partition(":"))
    prefix = unquote(parts.path).strip("/")
    if prefix:
        checked_name(prefix)
    root = f"{bucket}/{prefix}".rstrip("/")
    url = f"{scheme}://{root}"
    options = _options(scheme, url, parts.query)
    secrets = tuple(filter(None, (key, secret, *(os.environ.get(name, "") for name in SECRET_VARIABLES))))
    if scheme == "gs" and user_info:
        raise UsageError(f"{url}: credentials of gs:// come from the environment, not from the URL")
    make = partial(_s3, bucket, key or None, secret or None, options) if scheme == "s3" else partial(_gs, options)
    import pyarrow as pa

    clients = Clients(make)
    try:
        clients.get(1)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SkelpipeError(f"{url}: cannot be opened: {one_line(error, secrets)}") from None
    no_credentials = scheme == "s3" and not key and not options.get("anonymous") and not _finds_credentials()
    return BucketFilesystem(clients, root, url, secrets, no_credentials=no_credentials)


def _finds_credentials() -> bool:
    """Whether there are credentials where S3's own tools look. The role of a cloud machine is not seen here."""
    if any(os.environ.get(name) for name in CREDENTIALS):
        return True
    files = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
    return any(Path(os.environ.get(name) or usual).expanduser().is_file() for name, usual in files.items())


def _s3(
    bucket: str, key: str | None, secret: str | None, options: Mapping[str, Any], attempts: int
) -> "FileSystem":
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    if "endpoint_override" not in options:
        options = {**_endpoint(os.environ), **options}
    given = ("endpoint_override" in options, "region" in options, "AWS_REGION" in os.environ)
    if not any((*given, "AWS_DEFAULT_REGION" in os.environ)):
        options = {**options, "region": resolve_s3_region(bucket)}
    return S3FileSystem(
        access_key=key,
        secret_key=secret,
        allow_delayed_open=True,  # one request for a small file instead of three
        background_writes=False,  # else memory holds all that is written faster than the network sends it
        connect_timeout=CONNECT_SECONDS,
        request_timeout=SILENT_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=attempts),
        **options,
    )


def _endpoint(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the server that the variables of S3's own tools name, if any, as options of a URL."""
    names = (environment.get(name) for name in ENDPOINTS)
    scheme, found, host = next(filter(None, names), "").rpartition("://")
    return {"endpoint_override": host.rstrip("/")} | ({"scheme": scheme} if found else {}) if host else {}


def _gs(options: Mapping[str, Any], attempts: int) -> "FileSystem":
    from pyarrow.fs import GcsFileSystem

    return GcsFileSystem(retry_time_limit=timedelta(seconds=CONNECT_SECONDS * attempts), **options)


def _http_filesystem(scheme: str, text: str) -> HttpFilesystem:
    """Return the filesystem of a web address. No message repeats user-info or query."""
    parts = _split(text)
    user_info, _, host = parts.netloc.rpartition("@")
    if not re.fullmatch(r"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?", host) or parts.fragment:
        raise UsageError(f"an {scheme}:// URL is {scheme}://HOST/PATH (a /, ? or # in a name is written %XX)")
    prefix = unquote(parts.path).strip("/")
    if prefix:
        checked_name(prefix)
    user, _, password = (unquote(part) for part in user_info.partition(":"))
    return HttpFilesystem(Address(scheme, host, prefix, parts.query, (user, password) if user_info else None))


def url_key(url: str | Path) -> str:
    """Return a hash of a URL, 64 hex digits, without its user-info: a name that shows nothing of the URL.

    A server of s3:// that the environment names is part of it.
    """
    text = str(url)
    if "://" in text:
        parts = _split(text)
        text = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path.rstrip("/")).geturl()
        if parts.scheme.lower() == "s3" and "endpoint_override=" not in parts.query:
            text += _endpoint(os.environ).get("endpoint_override", "")
    return hashlib.sha256(text.encode()).hexdigest()


def child_url(url: str, name: str) -> str:
    """Return the URL, or path, of a sub-folder, with the same query."""
    if "://" not in url:
        return str(Path(url) / name)
    parts = _split(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()


def shown_url(url: str | Path) -> tuple[str, bool]:
    """Return a URL, or path, without its secrets, and whether it had any.

    Secrets are the user-info and the query of a web address; the query of a bucket URL is not secret.
    """
    filesystem, text = open_filesystem(url), str(url)
    if filesystem.is_local or "://" not in text:
        return str(filesystem), False
    parts = _split(text)
    query = "" if isinstance(filesystem, HttpFilesystem) or "@" in unquote(parts.query) else parts.query
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query)
    return shown.geturl(), shown != parts


def _options(scheme: str, url: str, query: str) -> dict[str, Any]:
    """Return the options in the query of a bucket URL; UsageError names a wrong option, never its value."""
    known = OPTIONS[scheme]
    try:
        pairs = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError:
        raise UsageError(f"{url}: its options must be ?NAME=VALUE&NAME=VALUE") from None
    for name in pairs:
        if name not in known:
            raise UsageError(f"{url}: there is no option {shown(name, 40)}; there are: {', '.join(sorted(known))}")
    options: dict[str, Any] = dict(pairs)
    if "anonymous" in pairs:
        if pairs["anonymous"] not in ("true", "false"):
            raise UsageError(f"{url}: option anonymous is true or false")
        options["anonymous"] = pairs["anonymous"] == "true"
    if pairs.get("scheme", "https") not in ("http", "https"):
        raise UsageError(f"{url}: option scheme is http or https")
    return options


def _file_path(text: str) -> Path:
    parts = _split(text)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UsageError("a file:// URL holds an absolute path: file:///data/ntu60-xsub")
    return Path(url2pathname(parts.path))


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise UsageError("the URL cannot be read; special characters in it are written %XX") from None
