"""Install the wheel in an empty environment, run README's quick starts as written, and measure start-up times.

    make wheel-check
    python tests/documentation/wheel_check.py --keep wheel-check

Each reader has an empty folder with what README says that they have, at the smallest size: NTU's zip with six
recordings; the recordings of docs/own-dataset.md and a bucket (a server on loopback); the laptop's dataset.
The commands are run as they are written, except that the training for a GPU ends after two of its 300 epochs. What
they install is installed once for all of them, with the versions of `constraints.txt`.
"""

import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "swift")]
READER: Final = re.compile(r"^\*\*(You have [^*]+)\*\*.*?^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INSTALLS: Final = "pip install"
# The folder of each reader, and what is in it, in README's order.
HAS: Final = {
    "You have NTU RGB+D's zips": (
        "researcher",
        "skelpipe synth --subjects 2 --actions 1 --repeats 1 --frames 40 --out nturgb+d_skeletons\n"
        "python -m zipfile -c nturgbd_skeletons_s001_to_s017.zip nturgb+d_skeletons && rm -r nturgb+d_skeletons\n",
    ),
    "You have a laptop": ("student", ""),
    "You have recordings of your own": (
        "engineer",
        f"python {HERE}/stand_ins.py own && mv gym recordings && cp recordings/eve-1-row.npy new.npy\n",
    ),
    "You have a method of your own": ("author", "ln -s ../student/demo demo\n"),
}
SHORTER: Final = {"skelpipe pretrain --method aimclr --out runs/aimclr\n": " --epochs 2"}
STARTS: Final = (
    ("import skelpipe", ("python", "-c", "import skelpipe"), 0),
    ("skelpipe --help", ("skelpipe", "--help"), 0),
    ("skelpipe pretrain --help", ("skelpipe", "pretrain", "--help"), 0),
    ("a usage error: skelpipe pretrain --epochs x", ("skelpipe", "pretrain", "--epochs", "x"), 2),
    ("skelpipe doctor", ("skelpipe", "doctor"), 0),
)
TIMES: Final = 5


def install(folder: Path) -> Path:
    """Build the wheels of skelpipe and of the example of a plug-in, install them; return the new environment."""
    wheels, venv = folder / "wheels", folder / "venv"
    say(
        "build the wheels",
        lambda: [build(source, wheels, folder) for source in (ROOT, ROOT / "docs/examples/plugin")],
    )
    say("make an environment", lambda: subprocess.run([sys.executable, "-m", "venv", venv], check=True))
    pip = [venv / "bin/pip", "install", "-q", "--no-compile", "-c", ROOT / "constraints.txt"]
    wheel, plugin = (next(wheels.glob(f"{name}-*.whl")) for name in ("skelpipe", "tiny_skeletons"))
    # First torch by its pinned version, so that nothing later pulls in another build of it.
    say("install torch", lambda: subprocess.run([*pip, "torch"], check=True))
    say("install the wheel and its extra plot", lambda: subprocess.run([*pip, f"{wheel}[plot]"], check=True))
    say("install the plug-in", lambda: subprocess.run([*pip, "--no-deps", plugin], check=True))
    return venv


def build(source: Path, wheels: Path, folder: Path) -> None:
    """Build a wheel of the files that git has, in a copy: building leaves files behind."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=source, capture_output=True, text=True, check=True).stdout.splitlines()
    copy = folder / "sources" / source.name
    for name in filter(lambda name: (source / name).is_file(), names):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, copy / name)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, copy], check=True)


def say(what: str, do: object) -> None:
    begun = time.monotonic()
    do()  # type: ignore[operator]
    click.echo(f"{what}: {time.monotonic() - begun:.0f} s")


def readers() -> Iterator[tuple[str, str]]:
    """Yield who each quick start is for, and its commands without `pip install`."""
    start = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Start\n")[2].partition("\n## ")[0]
    for who, commands in READER.findall(start):
        yield who, "".join(line for line in commands.splitlines(True) if not line.startswith(INSTALLS))


def start_up(environment: dict[str, str], folder: Path) -> None:
    """Print processor and wall time of some commands: the least of several, once files are in memory."""
    for name, words, code in STARTS:
        times = []
        for _ in range(TIMES + 1):
            before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, check=False)
            after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begun
            if done.returncode != code:
                raise click.ClickException(f"{name}: exit code {done.returncode}: {done.stderr.decode()}")
            times.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall))
        processor, wall = (min(each) for each in zip(*times[1:], strict=True))
        click.echo(f"{name}: {processor:.2f} s of processor time, {wall:.2f} s")


@click.command()
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to work in, which stays.")
@click.option(
    "--venv", type=click.Path(path_type=Path), help="Environment where all is installed, of an earlier --keep."
)
def main(keep: Path | None, venv: Path | None) -> None:
    """Install the wheel, run README's quick starts, measure start-up times; exit with 1 if something fails."""
    import server as swift

    found = dict(readers())
    if missing := [line for line in SHORTER if line not in "".join(found.values())]:
        raise click.ClickException(f"README has no longer {missing[0].strip()!r}, which SHORTER names")
    if found.keys() != HAS.keys():
        raise click.ClickException(
            f"README's quick starts are for {', '.join(found)}; HAS is for {', '.join(HAS)}"
        )
    with ExitStack() as stack:
        folder = (keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wheel-")))).resolve()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        venv = venv.resolve() if venv else install(folder)
        running = stack.enter_context(swift.running(folder / "swift"))
        running.make_bucket("bucket")
        environment = {
            "PATH": f"{venv}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            **running.environment,
        }
        environment |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.port}", "AWS_REGION": "us-east-1"}
        start_up(environment, folder)
        sys.exit(quick_starts(found, folder, environment))


def quick_starts(found: dict[str, str], folder: Path, environment: dict[str, str]) -> int:
    """Run all quick starts, two at a time, as the last needs the dataset of the second; return 1 if one failed."""
    failed = False
    for pair in (list(found)[:2], list(found)[2:]):
        begun, running = time.monotonic(), {}
        for who in pair:
            home = folder / HAS[who][0]
            home.mkdir()
            script = f"set -e\n{HAS[who][1]}set -x\n{shorter(found[who])}"
            with (folder / f"{home.name}.txt").open("w") as said:
                running[who] = subprocess.Popen(
                    ["bash", "-c", script], cwd=home, env=environment, stdout=said, stderr=said
                )
        for who, process in running.items():
            code = process.wait()
            click.echo(f"{who}: {'done' if code == 0 else f'FAILED ({code})'}, {time.monotonic() - begun:.0f} s")
            if code:
                failed = True
                click.echo((folder / f"{HAS[who][0]}.txt").read_text(encoding="utf-8")[-3000:])
    return int(failed)


def shorter(commands: str) -> str:
    """Return commands of which those that need a GPU end early."""
    for line, more in SHORTER.items():
        commands = commands.replace(line, f"{line.rstrip()}{more}\n")
    return commands


if __name__ == "__main__":
    main()
