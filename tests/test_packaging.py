"""The wheel, installed away from the checkout: everything travels, and a user's folders shadow nothing."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"  # building in the checkout would leave files in it
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(copy)]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel's content in a folder of its own, as `pip install` lays it out."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*command, str(wheel)], check=True)
    return site


def python(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run this environment's python, with the installed wheel in front of the checkout."""
    code = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    words = (words[0], code + words[1], *words[2:]) if words[0] == "-c" else words
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_wheel_holds_facts_and_recipes_and_only_our_package(wheel) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "skelpipe/manifests/datasets/ntu60.yaml" in names
    assert "skelpipe/manifests/lists/ntu120-missing.txt" in names
    assert "skelpipe/train/recipes/skeletonclr.yaml" in names
    assert "skelpipe/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"skelpipe"}
    sources = [
        p.relative_to(ROOT) for d in ("pipeline", "models", "train", "manifests") for p in (ROOT / d).rglob("*")
    ]
    wanted = {p for p in sources if p.suffix in {".py", ".yaml", ".txt", ".html", ".css", ".js", ".safetensors"}}
    assert len([name for name in names if name.startswith("skelpipe/") and not name.endswith("py.typed")]) == len(
        wanted
    )


def test_users_own_folders_do_not_shadow_ours(installed, tmp_path) -> None:
    for folder in ("models", "train", "manifests", "pipeline"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text(
            "raise SystemExit('the user\\'s own folder was imported')\n"
        )
    code = (
        "import skelpipe, skelpipe.models, skelpipe.train.recipes.reader, skelpipe.manifest_file as m\n"
        "print(skelpipe.__file__); print(len(m.load_manifest('ntu120').missing))\n"
        "print(skelpipe.train.recipes.reader.load_recipe('skeletonclr').settings.queue)"
    )
    done = python(installed, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(installed / "skelpipe" / "__init__.py"), "535", "32768"]


def test_a_users_own_packages_stay_importable(installed, tmp_path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("mine = True\n")
    done = python(installed, tmp_path, "-c", "import skelpipe.models, models; print(models.mine)")
    assert done.stdout.strip() == "True", done.stderr


def test_commands_work_outside_the_checkout(installed, raw_folder, ntu_names, tmp_path) -> None:
    raw_folder(ntu_names(), folder="raw/ntu60")
    code = "from skelpipe.cli import main\nif __name__ == '__main__': main(sys.argv[1:])"
    words = ["prepare", "--dataset", "ntu60", "--split", "xsub", "--frames", "8", "--workers", "1"]
    done = python(installed, tmp_path, "-c", code, *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "ntu60-xsub" / "dataset.json").is_file()
