"""`import skelpipe`: the names it offers, when they are imported, and the package that is also a function."""

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import skelpipe


def run(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_imports_nothing_heavy() -> None:
    """The test is of modules, since times depend on the machine."""
    said = run(
        "import sys, skelpipe\n"
        "print(sorted({'torch', 'numpy', 'pyarrow', 'numba', 'h5py', 'click', 'yaml'} & set(sys.modules)))\n"
        "print(skelpipe.__version__, skelpipe.Layout.__name__, 'torch' in sys.modules)"
    )
    assert said.splitlines() == ["[]", f"{skelpipe.__version__} Layout False"]


def test_every_name_is_there() -> None:
    assert set(skelpipe.__all__) <= set(dir(skelpipe))
    assert all(getattr(skelpipe, name) is not None for name in skelpipe.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Datset'"):
        skelpipe.Datset  # noqa: B018


@pytest.mark.parametrize(
    "before", ["", "from skelpipe.prepare import Options", "import skelpipe.prepare.run", "skelpipe.prepare"]
)
def test_prepare_is_a_package_and_its_function(before: str) -> None:
    said = run(
        f"import inspect, skelpipe\n{before}\n"
        "from skelpipe.prepare import Options, prepare_dataset\n"
        "import skelpipe.prepare as package\n"
        "assert package is skelpipe.prepare and package.Options is Options\n"
        "assert inspect.signature(skelpipe.prepare) == inspect.signature(prepare_dataset)\n"
        "from skelpipe import prepare as imported\n"
        "try: imported()\n"
        "except TypeError as error: print(error)"
    )
    assert said.startswith("prepare_dataset() missing")


def examples() -> list[doctest.Example]:
    """The examples of docs/python.md that are typed at the prompt of Python."""
    page = Path(__file__).resolve().parents[2] / "docs" / "python.md"
    blocks = re.findall(r"^```text\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks, "there are no examples"
    return [example for block in blocks for example in doctest.DocTestParser().get_examples(block)]


def test_the_page_shows_what_python_prints() -> None:
    """Of the dataset on the page there is only its card; its digest and where it lies are the page's."""
    digest = "9d1c3b7e"
    names: dict[str, Any] = {"dataset": card_of_ntu60(digest), "skelpipe": skelpipe}
    for example in examples():
        source = example.source.strip()
        wanted = example.want.strip() if example.exc_msg is None else example.exc_msg.strip()
        try:
            found = repr(eval(source, names))
        except SyntaxError:
            exec(source, names)
            assert not wanted, source
            continue
        except skelpipe.errors.SkelpipeError as error:
            found = f"skelpipe.errors.{type(error).__name__}: {error}"
        assert found == wanted


def card_of_ntu60(digest: str) -> skelpipe.Dataset:
    """NTU-60 without files: 40,091 and 16,487 clips are those of its paper's cross-subject protocol, less 302."""

    class Published(skelpipe.Dataset):
        def stored_labels(self, subset: str) -> Any:
            return [0] * self.count(subset)

        def reader(self, subset: str, view: str) -> Any:
            return None

    Published.__name__ = "Dataset"
    plain = skelpipe.Layout.named("kinect-v2-25").to_plain()
    splits = {name: {"shards": [{"samples": count}]} for name, count in (("train", 40091), ("test", 16487))}
    views: dict[str, Any] = {view: {} for view in ("joint", "bone", "motion")}
    card = {"name": "ntu60", "split": "xsub", "digest": digest, "profile": {"name": "crosclr"}, "layout": plain}
    card |= {
        "shape": [3, 50, 25, 2],
        "classes": [str(each) for each in range(60)],
        "views": views,
        "splits": splits,
    }
    return Published(Path("data/ntu60-xsub"), card)
