"""A real S3 server on loopback: OpenStack Swift as account, container, object and proxy processes.

It checks signatures and digests, serves ranges and takes uploads in parts. All data lie in one folder, all ports
are free ones of 127.0.0.1, and the processes end with the one that started them, however that ends.
"""

import contextlib
import http.client
import os
import pwd
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).parent
VENV = HERE.parents[1] / ".venv-swift"
KEY, SECRET = "lab:reader", "a+secret/with=signs"
KINDS = ("account", "container", "object")
START_SECONDS = 120.0
STOP_SECONDS = 5.0
TRIES = 3  # a port that was free may be taken by the time it is used

SWIFT_CONF = """\
[swift-hash]
swift_hash_path_suffix = skelpipe
[storage-policy:0]
name = one
policy_type = replication
default = yes
"""
COMMON = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
log_level = WARNING
"""
STORAGE = """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
PROXY = """\
[pipeline:main]
pipeline = catch_errors proxy-logging cache listing_formats bulk s3api tempauth slo dlo versioned_writes symlink \
proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
paste.filter_factory = dict_cache:filter_factory
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user} = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
[filter:symlink]
use = egg:swift#symlink
"""


class NotHereError(Exception):
    """The server cannot run on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Swift:
    """A server that runs: the port it answers on, and the folder of its data and logs."""

    port: int
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Credentials as the stores' own tools have them, and nothing asked of other servers."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def url(self, path: str, *, port: int | None = None, user: str | None = None, secret: str = SECRET) -> str:
        """Return the URL of `bucket/prefix`, through another `port` or with credentials in it where given."""
        user_info = "" if user is None else f"{quote(user, safe='')}:{quote(secret, safe='')}@"
        return (
            f"s3://{user_info}{path}?endpoint_override=127.0.0.1:{port or self.port}&scheme=http&region=us-east-1"
        )

    def make_bucket(self, name: str) -> None:
        from pyarrow.fs import S3FileSystem

        files = S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            endpoint_override=f"127.0.0.1:{self.port}",
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        files.create_dir(name)

    def log(self) -> str:
        """Return what the proxy process has logged."""
        return (self.folder / "proxy.log").read_text(errors="replace")


def why_not(folder: Path) -> str | None:
    """Say what keeps a server of ours from keeping its data in `folder`, if anything."""
    if not (VENV / "bin" / "swift-proxy-server").exists():
        return f"no Swift in {VENV.name}: `make {VENV.name}/.installed` puts it there"
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / "xattr"
    probe.touch()
    try:
        os.setxattr(probe, "user.swift.metadata", b"1")
    except OSError as error:
        return f"Swift needs user xattrs, which the file system of {folder} does not have ({error.strerror})"
    finally:
        probe.unlink()
    return None


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Swift]:
    """Run a server whose data lie in `folder`, a new or empty one; NotHereError where `why_not` has a reason."""
    if reason := why_not(folder):
        raise NotHereError(reason)
    for number in range(TRIES):
        home = folder / str(number)
        with contextlib.ExitStack() as stack:
            ports = _free_ports(len(KINDS) + 1)
            _write_settings(home, ports)
            programs = [stack.enter_context(_program(home, kind)) for kind in (*KINDS, "proxy")]
            if _answers(ports, programs):
                yield Swift(ports[-1], home)
                return
    logs = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(home.glob("*.log")))
    raise RuntimeError(f"Swift did not start:\n{logs}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _write_settings(folder: Path, ports: Sequence[int]) -> None:
    (folder / "devices" / "disk").mkdir(parents=True)
    (folder / "swift.conf").write_text(SWIFT_CONF)
    account, user = KEY.split(":")
    settings = {kind: STORAGE.format(kind=kind) for kind in KINDS}
    settings["proxy"] = PROXY.format(account=account, user=user, secret=SECRET)
    runs_as = pwd.getpwuid(os.getuid()).pw_name
    for (kind, text), port in zip(settings.items(), ports, strict=True):
        common = COMMON.format(port=port, user=runs_as, folder=folder)
        (folder / f"{kind}.conf").write_text(common + text)
    ring = [VENV / "bin" / "python", HERE / "rings.py", folder, *map(str, ports[:-1])]
    subprocess.run(ring, check=True, capture_output=True, timeout=START_SECONDS)


@contextlib.contextmanager
def _program(folder: Path, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of the four programs; it has ended when the context is left."""
    python = VENV / "bin" / "python"
    command = [sys.executable, "-S", HERE / "tied.py", str(os.getpid())]
    command += [python, VENV / "bin" / f"swift-{kind}-server", folder / f"{kind}.conf", "verbose"]
    with open(folder / f"{kind}.log", "wb") as log:
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(HERE)},  # where dict_cache lies
            start_new_session=True,
        )
    try:
        yield program
    finally:
        program.terminate()
        try:
            program.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def _answers(ports: Sequence[int], programs: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Wait until every program answers; False where one has ended or time is up."""
    deadline = time.monotonic() + START_SECONDS
    waiting = list(ports)
    while waiting and time.monotonic() < deadline:
        if any(program.poll() is not None for program in programs):
            return False
        waiting = [port for port in waiting if not _answers_at(port)]
        if waiting:
            time.sleep(0.05)
    return not waiting


def _answers_at(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
