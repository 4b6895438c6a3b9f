"""Run every command and every block of Python of the documentation, page by page, on small inputs.

    make docs-commands
    python tests/documentation/run_commands.py docs/training.md --keep pages

Each page runs in a folder of its own, in the page's order, by bash. `pages.yaml` says what its readers have
before, by which options commands become small, and which lines cannot run here, with the reason. Such a line is
printed by page and number; it is an error if the page no longer has it. An S3 server on loopback has the bucket.
"""

import array
import importlib
import json
import os
import pkgutil
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

HERE: Final = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "swift")]
from pages import Page, all_pages  # noqa: E402

ROOT: Final = HERE.parents[1]
LINKS: Final = ("train", "docs", "tests", "constraints.txt")  # what pages name of a checkout
SECONDS: Final = 900  # of a page
TRAP: Final = """set -eE; trap 'echo "{page}:$LINENO failed: $BASH_COMMAND" >&2' ERR;"""
BUCKET: Final = "bucket"


def load_everything() -> None:
    """Import what commands need, as their forks have it then."""
    import torch
    import torch._dynamo  # optimisers import it
    import torch.distributed.run

    torch.set_num_threads(1)
    for package in ("skelpipe.train.commands", "skelpipe.cli", "skelpipe.train"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


class Requests:
    """A socket that programs of a shell hand their words to, with their open files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(16)
        self.parent = 0

    def next(self) -> tuple[dict[str, Any], list[int], socket.socket]:
        self.parent = self.parent or os.getppid()
        while not select.select([self.socket], [], [], 1.0)[0]:
            if os.getppid() != self.parent:  # whoever waited for the page is gone
                os._exit(1)
        connection, _ = self.socket.accept()
        _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(3 * 4))
        files = array.array("i", ancillary[0][2])
        return json.loads(connection.makefile().readline()), list(files), connection


def become(request: dict[str, Any], files: list[int]) -> None:
    """Take over folder, environment and open files of a program."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.stdout.flush()
    sys.stderr.flush()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # Streams keep what they know of the files that they were opened on, such as whether these can seek.
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)


def code_of(end: SystemExit) -> int:
    if isinstance(end.code, str):
        print(end.code, file=sys.stderr)
    return end.code if isinstance(end.code, int) else int(end.code is not None)


def serve_commands(requests: Requests, pages: dict[str, Page]) -> None:
    """Run each command that is asked for in a fork, and answer with its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, files, connection = requests.next()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child = os.fork()
            if child == 0:
                page = pages[request["environment"]["PAGE"]]
                _end_with(partial(run_command, request, files, page))
            for file in files:
                os.close(file)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            with open(request["environment"]["PAGE_SECONDS"], "a", encoding="utf-8") as seconds:
                seconds.write(f"{used.ru_utime + used.ru_stime:.3f}\n")
            connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())
            os._exit(0)
        for file in files:
            os.close(file)
        connection.close()


def _end_with(run: Any) -> None:
    code = 1
    try:
        run()
        code = 0
    except SystemExit as end:
        code = code_of(end)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_command(request: dict[str, Any], files: list[int], page: Page) -> None:
    from skelpipe.cli import main as skelpipe
    from skelpipe.cli.command import Command

    become(request, files)
    words = request["words"]
    # Options that follow those of the page count.
    Command.refuse_several = lambda *_: None  # type: ignore[method-assign]
    sys.argv = [request["name"], *words]
    sys.executable = os.environ["PYTHON_EXEC"]  # what starts further scripts
    if request["name"] == "torchrun":
        from torch.distributed.run import main

        main(words)
    elif request["name"] == "python":
        name = re.split(r"[/.]", words[0].removesuffix(".py"))[-1]
        main = importlib.import_module(f"skelpipe.train.{name}").main
        main(page.words(name.replace("_", "-"), words[1:]), prog_name=words[0])
    else:
        more = page.words(words[0], words) if words else words
        skelpipe(more, prog_name="skelpipe")


def serve_blocks(requests: Requests, page: Page) -> None:
    """Run the blocks of Python of a page, one after another with the same names."""
    names: dict[str, Any] = {"__name__": "__main__"}
    kept = [os.dup(number) for number in range(3)]
    while True:
        request, files, connection = requests.next()
        become(request, files)
        code = 0
        try:
            exec(compile(page.python(int(request["words"][0])), page.name, "exec"), names)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        for number, file in enumerate(kept):
            os.dup2(file, number)
        connection.sendall(f"{code}\n".encode())
        connection.close()


class Shell:
    """A page that runs."""

    def __init__(self, page: Page, folder: Path, environment: dict[str, str]) -> None:
        self.page, self.folder, self.begun = page, folder, time.monotonic()
        (folder / "here").mkdir(parents=True)
        for name in LINKS:
            (folder / "here" / name).symlink_to(ROOT / name)
        self.blocks = 0
        if any(kind == "python" for _, kind, _ in page.blocks):
            requests = Requests(folder / "blocks")
            environment = {**environment, "PAGE_BLOCKS": str(requests.path)}
            self.blocks = os.fork()
            if self.blocks == 0:
                os.setsid()
                _end_with(lambda: serve_blocks(requests, page))
            requests.socket.close()
        (folder / "has.sh").write_text(page.has)
        has = TRAP.format(page=f"{page.name}, what its readers have")
        # On one line, so that the numbers of the page's lines are those of the script's.
        (folder / "page.sh").write_text(f"{has} . {folder}/has.sh; {TRAP.format(page=page.name)} {page.script}")
        self.said = (folder / "said.txt").open("wb")
        self.process = subprocess.Popen(
            ["bash", str(folder / "page.sh")],
            cwd=folder / "here",
            env={
                **environment,
                "PAGE": page.name,
                "PAGE_SECONDS": f"{folder}/seconds.txt",
                "HF_HOME": f"{folder}/hugging-face",
            },
            stdin=subprocess.DEVNULL,
            stdout=self.said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def seconds(self) -> float:
        """The processor time of the commands, in seconds; that of the Python of a page is not among it."""
        path = self.folder / "seconds.txt"
        return sum(map(float, path.read_text("utf-8").split())) if path.exists() else 0.0

    def ended(self) -> bool:
        if self.process.poll() is None and time.monotonic() - self.begun > SECONDS:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return self.process.poll() is not None

    def close(self) -> None:
        for leader in filter(None, (self.process.pid, self.blocks)):
            with suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)
        self.process.wait()
        if self.blocks:
            os.waitpid(self.blocks, 0)
        self.said.close()


def programs(folder: Path) -> None:
    """Write the programs that stand first on a page's PATH."""
    folder.mkdir()
    text = (HERE / "program.py").read_text(encoding="utf-8")
    for name in ("skelpipe", "python", "torchrun", "page-python"):
        (folder / name).write_text(f"#!{sys.executable} -SE\n{text}", encoding="utf-8")
        (folder / name).chmod(0o755)


@click.command()
@click.argument("names", nargs=-1, metavar="[PAGE]...")
@click.option("--jobs", default=2, show_default=True, help="Pages at a time.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to work in, which stays.")
def main(names: tuple[str, ...], jobs: int, keep: Path | None) -> None:
    """Run the commands and the Python of all pages, or of some; exit with 1 if one fails."""
    pages = {page.name: page for page in all_pages()}
    if unknown := set(names) - pages.keys():
        raise click.UsageError(f"no such page: {', '.join(sorted(unknown))}")
    try:
        listed = [each for page in pages.values() for each in page.not_run]
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    click.echo("Not run:")
    for each in listed:
        click.echo(f"  {each.page}:{each.line}: {each.text}\n      {each.reason}")
    chosen = [pages[name] for name in names or pages if "\n".join(pages[name].script.split())]
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pages-")))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        sys.exit(run_pages(chosen, folder.resolve(), jobs, stack))


def run_pages(chosen: list[Page], folder: Path, jobs: int, stack: ExitStack) -> int:
    import server as swift

    begun = time.monotonic()
    programs(folder / "bin")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKELPIPE_")}
    environment |= {
        "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PAGE_PYTHON": sys.executable,
        "PYTHON_EXEC": f"{folder}/bin/python",  # of torchrun
        "PAGE_COMMANDS": str(folder / "commands"),
        "OMP_NUM_THREADS": "1",
    }
    if any("s3://" in page.script for page in chosen):
        running = stack.enter_context(swift.running(folder))
        running.make_bucket(BUCKET)
        server_url = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.port}", "AWS_REGION": "us-east-1"}
        environment |= {**running.environment, **server_url}
    requests = Requests(folder / "commands")
    load_everything()
    server = os.fork()
    if server == 0:
        os.setsid()
        _end_with(lambda: serve_commands(requests, {page.name: page for page in chosen}))
    stack.callback(os.killpg, server, signal.SIGKILL)
    waiting, active, failed, used = list(chosen), [], [], 0.0
    while waiting or active:
        while waiting and len(active) < jobs:
            page = waiting.pop(0)
            active.append(Shell(page, folder / page.name.replace("/", "-"), environment))
        time.sleep(0.05)
        for shell in [each for each in active if each.ended()]:
            active.remove(shell)
            shell.close()
            wall, seconds = time.monotonic() - shell.begun, shell.seconds()
            used += seconds
            code = shell.process.returncode
            state = "done" if code == 0 else f"FAILED ({code})"
            click.echo(f"{shell.page.name}: {state}, {wall:.0f} s, commands' processor time {seconds:.0f} s")
            if code:
                failed.append(shell.page.name)
                said = (shell.folder / "said.txt").read_text(encoding="utf-8", errors="replace")
                click.echo("\n".join(f"    {line}" for line in said.splitlines()[-25:]))
    done, wall = len(chosen) - len(failed), time.monotonic() - begun
    click.echo(f"{done} of {len(chosen)} pages in {wall:.0f} s, {used:.0f} s of processor time")
    return int(bool(failed))


if __name__ == "__main__":
    main()
