"""Files that say what recordings are: CSV with a header, or JSON; one row for each recording, of any columns."""

import csv
import json
import re
from collections.abc import Iterable, Sequence

from skelpipe.errors import UsageError
from skelpipe.files import unique_keys
from skelpipe.manifest import Value, as_value
from skelpipe.untrusted import described, shown

__all__ = ["read_label_table"]

DELIMITERS = ",;\t"
WHOLE = re.compile(r"^([0-9]+)\.0+$")


def read_label_table(
    lines: Sequence[str], where: str, key: str, label: str = "label"
) -> dict[str, dict[str, Value]]:
    """Return the columns of each row beside `key`, by the row's text in the column `key`.

    `lines` are those of a CSV file, whose first names the columns (separated by commas, semicolons or tabs), or of
    a JSON file: a list of objects, or an object of such objects by their key (or of classes: column `label`).
    Digits become numbers, also `1.0`, as pandas writes a column with gaps. In JSON `key` and the class, `label`,
    are texts or whole numbers; in other columns null is empty, and lists and objects are left out. Raises
    UsageError, which begins with `where`, for anything else and a key given twice.
    """
    text = "\n".join(lines).strip()
    rows = _of_json(text, where, key, label) if text.startswith(("{", "[")) else _of_csv(lines, where, key)
    found: dict[str, dict[str, Value]] = {}
    for at, row in rows:
        if not row.get(key):
            raise UsageError(f"{at}: the column {key!r} is empty")
        name = row.pop(key)
        if name in found:
            raise UsageError(f"{at}: {shown(name)} is given twice")
        found[name] = {column: as_value(_whole(value)) for column, value in row.items()}
    if not found:
        raise UsageError(f"{where}: holds no rows")
    return found


def _of_csv(lines: Sequence[str], where: str, key: str) -> Iterable[tuple[str, dict[str, str]]]:
    head = lines[0] if lines else ""
    for delimiter in DELIMITERS:
        columns = [column.strip() for column in next(csv.reader([head], delimiter=delimiter), [])]
        if key in columns:
            break
    else:
        raise UsageError(f"{where}:1: there is no column {key!r}, found {described(head.strip())}")
    if len(set(columns)) != len(columns):
        raise UsageError(f"{where}:1: a column is named twice")
    reader = csv.reader(lines[1:], delimiter=delimiter)
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if not any(values):
                continue
            if len(values) != len(columns):
                raise UsageError(
                    f"{where}:{reader.line_num + 1}: {len(columns)} columns are expected, found {len(values)}"
                )
            yield f"{where}:{reader.line_num + 1}", dict(zip(columns, values, strict=True))
    except csv.Error as error:
        raise UsageError(f"{where}:{reader.line_num + 1}: is no CSV: {shown(error)}") from None


def _of_json(text: str, where: str, key: str, label: str) -> Iterable[tuple[str, dict[str, str]]]:
    try:
        content = json.loads(text, object_pairs_hook=unique_keys)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: is no JSON: {shown(error)}") from None
    except ValueError as error:
        raise UsageError(f"{where}: {shown(error)}") from None
    if isinstance(content, dict):
        content = [
            {**(row if isinstance(row, dict) else {"label": row}), key: name} for name, row in content.items()
        ]
    for number, row in enumerate(content, 1):
        if not isinstance(row, dict) or key not in row:
            raise UsageError(f"{where}: entry {number}: an object with {key!r} is expected")
        if wrong := next((name for name in (key, label) if name in row and not _plain(row[name])), None):
            raise UsageError(f"{where}: entry {number}: {described(wrong)} is neither a text nor a whole number")
        yield (
            f"{where}: entry {number}",
            {
                name: "" if value is None else str(value)
                for name, value in row.items()
                if not isinstance(value, (list, dict))
            },
        )


def _plain(value: object) -> bool:
    whole = isinstance(value, float) and value.is_integer()
    return whole or (isinstance(value, (str, int)) and not isinstance(value, bool))


def _whole(text: str) -> str:
    """Return `1.0` as `1`, any other text as it is."""
    return WHOLE.sub(r"\1", text)
