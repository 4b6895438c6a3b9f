"""Facts as data: datasets, splits, missing lists, skeleton layouts and class names.

`read_text` and `read_lines` return the content of files in this folder, from a checkout or an installed wheel.
`skelpipe.skeleton` and `skelpipe.manifest_file` give it its meaning.
"""

from importlib.resources import files

__all__ = ["names", "read_lines", "read_text"]


def names(kind: str) -> list[str]:
    """Return the sorted names of the YAML files in folder `kind`, such as `datasets`, without suffix."""
    folder = files(__name__).joinpath(kind)
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_text(kind: str, name: str) -> str:
    """Return the text of `kind/name.yaml`; raises KeyError if there is no such file."""
    if name not in names(kind):
        raise KeyError(f"no {kind[:-1]} is called {name[:40]!r}; there are: {', '.join(names(kind))}")
    return files(__name__).joinpath(kind, f"{name}.yaml").read_text("utf-8")


def read_lines(kind: str, name: str) -> list[str]:
    """Return the lines of the text file `kind/name`, without line ends."""
    return files(__name__).joinpath(kind, name).read_text("utf-8").splitlines()
