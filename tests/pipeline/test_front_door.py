"""`import skelpipe`: the names it offers, when they are imported, and the package that is also a function."""

import subprocess
import sys

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
