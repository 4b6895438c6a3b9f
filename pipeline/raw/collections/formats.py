"""The formats that `skelpipe import` knows, and which of them some files are of."""

from pathlib import Path

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.collections.contents import Contents, ImportFormat, Request
from skelpipe.raw.collections.ctrgcn import claims_ctrgcn, index_ctrgcn, read_ctrgcn
from skelpipe.raw.collections.hub import claims_hub, index_hub
from skelpipe.raw.collections.poses import POSE_IMPORTS
from skelpipe.raw.collections.pyskl import claims_pyskl, index_pyskl, read_pyskl
from skelpipe.raw.collections.stgcn import (
    claims_position,
    claims_stgcn,
    index_position,
    index_stgcn,
    read_array,
)
from skelpipe.raw.collections.web_tars import claims_web_tars, index_web_tars, read_web_tars
from skelpipe.raw.mapped_arrays import map_file
from skelpipe.raw.plain_pickle import load_pickle
from skelpipe.raw.source import RawFile

__all__ = ["IMPORT_FORMATS", "find_contents", "import_hint"]

IMPORT_FORMATS: dict[str, ImportFormat] = {
    each.name: each
    for each in (
        ImportFormat(
            "ctrgcn-npz", "CTR-GCN's x_train and y_train in one .npz", claims_ctrgcn, index_ctrgcn, read_ctrgcn
        ),
        ImportFormat("stgcn-npy", "st-gcn's *data*.npy and *label.pkl", claims_stgcn, index_stgcn, read_array),
        ImportFormat("crosclr-npy", "CrosSCLR's *_position.npy", claims_position, index_position, read_array),
        ImportFormat("pyskl-pkl", "a pickle of pyskl or MMAction2", claims_pyskl, index_pyskl, read_pyskl),
        ImportFormat("npy-folders", "one .npy per recording, by folders or metadata", claims_hub, index_hub),
        *POSE_IMPORTS,
        ImportFormat("webdataset", "tars of KEY.npy and KEY.cls", claims_web_tars, index_web_tars, read_web_tars),
    )
}
PICKLES = (".pkl", ".pickle")
GENERAL = "npy-folders"  # gives way to a format that knows what the arrays are


def find_contents(request: Request, format_name: str | None) -> tuple[ImportFormat, Contents]:
    """Return the format of the files, the named one or the only one that they are of, and their contents.

    Raises UsageError where no format, or more than one, claims the files, and where the user has to say more.
    """
    if not request.files:
        raise UsageError("there is no file in the folder")
    if format_name is not None:
        chosen = IMPORT_FORMATS[format_name]
        return chosen, chosen.index(request)
    claiming = [each for each in IMPORT_FORMATS.values() if each.claims(request)]
    claiming = [each for each in claiming if each.name != GENERAL] or claiming
    where = request.files[0].path
    if not claiming:
        packed = next((file.path for file in request.files if file.member or _is_packed(file.path)), None)
        if packed is not None:
            raise UsageError(f"{packed}: is packed: an import maps its files into memory, so unpack it first")
        _refuse_damaged(request)
        raise UsageError(
            f"{where}: no file of a known format is found. Known are {', '.join(IMPORT_FORMATS)};"
            " docs/importing.md says what each is"
        )
    if len(claiming) > 1:
        names = " or ".join(each.name for each in claiming)
        raise UsageError(f"{where}: there are files of several formats: give fewer files, or say --format {names}")
    return claiming[0], claiming[0].index(request)


def _refuse_damaged(request: Request) -> None:
    """Raise RawError where the only files are pickles that cannot be read: no format can then be told."""
    if all(file.member is None and file.relative.lower().endswith(PICKLES) for file in request.files):
        for file in request.files:
            load_pickle(map_file(file.path), file.path)


def _is_packed(path: str) -> bool:
    return path.lower().endswith((".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar"))


def import_hint(path: str) -> str:
    """Return what to type for a file that holds many recordings, or "" if it is of no format of an import."""
    request = Request([RawFile(Path(path).name, path, 0)])
    for each in IMPORT_FORMATS.values():
        try:
            if each.read is not None and each.claims(request):
                return f"{path} holds many recordings ({each.title}): skelpipe import {path} --out DS"
        except RawError:
            continue
    return ""
