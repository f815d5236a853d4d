"""Tables as files hold them: CSV, TSV, Parquet and NPY, read and written."""

import csv
import dataclasses
import importlib
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import Refusal

STANDARD = "-"
"""Standard input, or standard output."""
FORMATS = {"csv": ",", "tsv": "\t", "parquet": "", "npy": ""}
"""Suffixes that are read, and what separates cells."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of one length by name.

    Attributes:
        columns: numbers, NaN where a cell is missing; or text, None where one is.
        source: where it came from, in messages.
    """

    columns: dict[str, np.ndarray]
    source: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def column(self, name: str) -> np.ndarray:
        """One column.

        Raises:
            Refusal: where there is none of this name.
        """
        if name not in self.columns:
            raise Refusal(
                f"{self.source} has no column {name!r}: choose from {', '.join(self.columns)}"
            )
        return self.columns[name]


def is_text(column: np.ndarray) -> bool:
    """Whether it holds categories, not numbers."""
    return column.dtype.kind == "O"


def missing(column: np.ndarray) -> np.ndarray:
    """Which cells are missing."""
    if is_text(column):
        return np.array([cell is None for cell in column.tolist()], bool)
    return np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), bool)


def read_table(path: str, kind: str | None = None) -> Table:
    """A table out of a file or of standard input.

    Args:
        path: a file, or "-".
        kind: one of `FORMATS`; None goes by the suffix, and takes standard input for CSV.

    Raises:
        Refusal: for a file that is not there, or holds no table.
    """
    source = "standard input" if path == STANDARD else path
    kind = kind_of(path, kind)
    try:
        if path == STANDARD:
            # a buffer, as Parquet and NPY seek
            columns = _read(io.BytesIO(sys.stdin.buffer.read()), kind)
        else:
            with open(path, "rb") as file:
                columns = _read(file, kind)
    except OSError as error:
        reason = error.strerror or error
        raise Refusal(f"cannot read {source}: {reason}; name a file, or - for stdin") from None
    except ValueError as error:  # pyarrow's and NumPy's are
        found = " ".join(str(error).split())
        raise Refusal(
            f"{source} is no {kind} table: {found}; check the file, or name its format: --format"
        ) from None
    if not columns or not len(next(iter(columns.values()))):
        raise Refusal(f"{source} holds no rows: a line of names, and rows below it, are needed")
    return Table(columns, source)


def kind_of(path: str, kind: str | None) -> str:
    """The format of a table: as told, or by the suffix; CSV where there is none.

    Raises:
        Refusal: for another one.
    """
    found = kind or (Path(path).suffix[1:].lower() if path != STANDARD else "") or "csv"
    found = {"tab": "tsv", "txt": "csv", "pq": "parquet"}.get(found, found)
    if found not in FORMATS:
        known = ", ".join(FORMATS)
        raise Refusal(f"{path}: the format {found!r} is none of {known}; name one with --format")
    return found


def _read(file: BinaryIO, kind: str) -> dict[str, np.ndarray]:
    if kind == "npy":
        return _of_array(np.load(file, allow_pickle=False))
    arrow = _arrow(kind)
    if kind == "parquet":
        found = arrow.parquet.read_table(file)
    else:
        # in one block: what a column holds is decided by all its rows
        size = max(1 << 20, file.seek(0, io.SEEK_END) + 1)
        file.seek(0)
        names = _numbered(file.readline(), FORMATS[kind])
        file.seek(0)
        found = arrow.csv.read_csv(
            file,
            read_options=arrow.csv.ReadOptions(
                block_size=min(size, 2**31 - 1), use_threads=False, column_names=names
            ),
            parse_options=arrow.csv.ParseOptions(delimiter=FORMATS[kind], newlines_in_values=True),
            convert_options=arrow.csv.ConvertOptions(strings_can_be_null=True),
        )
    names = list(map(str, found.column_names))
    if len(set(names)) < len(names):
        raise ValueError(f"the columns need different names, not {names}")
    return {name: _cells(found.column(i), name) for i, name in enumerate(names)}


def _numbered(line: bytes, separator: str) -> list[str] | None:
    """Names for the columns of a table whose first line holds numbers alone: it has no header."""
    cells = next(csv.reader([line.decode("utf-8-sig", "replace")], delimiter=separator), [])
    try:
        return [str(i) for i, _ in enumerate(map(float, cells))] or None
    except ValueError:
        return None


def _arrow(kind: str) -> Any:
    """The package with its module of this format: each takes time to load."""
    try:
        import pyarrow

        importlib.import_module(f"pyarrow.{'parquet' if kind == 'parquet' else 'csv'}")
    except ImportError:
        raise Refusal("tables need pyarrow: pip install 'otmix_jax[cli]'") from None
    return pyarrow


def _cells(column: Any, name: str) -> np.ndarray:
    """Numbers as they are where none is missing, else as floats; the rest as text."""
    kind = str(column.type)
    if kind == "null":  # a column without any cell
        return np.full(len(column), np.nan)
    if kind == "bool" or kind.startswith("decimal"):
        column = column.cast("float64" if kind != "bool" else "int8")
        kind = "number"
    if kind.startswith(("int", "uint", "float", "double", "half", "number")):
        found = np.asarray(column.to_numpy())
        if found.dtype.kind == "f":
            return found if found.dtype == np.float32 else found.astype(np.float64)
        return found
    if kind.startswith(("timestamp", "date", "time", "duration", "list", "struct", "binary")):
        raise ValueError(f"column {name!r} holds {kind}: turn it into numbers first")
    return np.array(column.to_pylist(), object)


def _of_array(array: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of a table without names: by number; of a structured array by name."""
    if array.dtype.names:
        columns = {name: array[name] for name in array.dtype.names}
    elif array.ndim == 2:
        columns = {str(i): column for i, column in enumerate(array.T)}
    else:
        raise ValueError(f"an array of shape {array.shape}, not (rows, columns)")
    for name, column in columns.items():
        if column.dtype.kind not in "fiubUS" or column.ndim != 1:
            raise ValueError(f"column {name!r} holds {column.dtype}, not numbers")
    return {
        name: column.astype(str).astype(object) if column.dtype.kind in "US" else _wide(column)
        for name, column in columns.items()
    }


def _wide(column: np.ndarray) -> np.ndarray:
    """Numbers of a width that JAX has; float32 stays."""
    keep = column.dtype.kind in "iu" or column.dtype == np.float32
    return column if keep else column.astype(np.float64)


def write_table(columns: Mapping[str, Iterable[Any]], path: str, kind: str | None = None) -> None:
    """Writes columns to a file or to standard output, numbers with all their digits.

    Raises:
        Refusal: where the file cannot be written.
    """
    kind = kind_of(path, kind)
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    data = _bytes(arrays, kind)
    if path == STANDARD:
        print_bytes(data)
    else:
        write_bytes(data, path)


def print_bytes(data: bytes) -> None:
    """Writes to standard output, all of it."""
    sys.stdout.flush()
    rest = memoryview(data)
    while rest:  # without a buffer (PYTHONUNBUFFERED) a write may stop short of its end
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()


def check_place(path: str | None) -> None:
    """Refuses a file in a folder that is not there, before anything long runs."""
    if path not in (None, STANDARD) and not Path(path).absolute().parent.is_dir():
        raise Refusal(f"cannot write {path}: no such folder; name one that is there")


def write_bytes(data: bytes, path: str) -> None:
    """Writes a file.

    Raises:
        Refusal: where it cannot be written.
    """
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise Refusal(f"cannot write {path}: {error.strerror}; name another file") from None


def _bytes(columns: dict[str, np.ndarray], kind: str) -> bytes:
    if kind == "parquet":
        arrow, sink = _arrow(kind), io.BytesIO()
        arrow.parquet.write_table(arrow.table(columns), sink)
        return sink.getvalue()
    if kind == "npy":
        sink = io.BytesIO()
        np.save(sink, np.column_stack(list(columns.values())), allow_pickle=False)
        return sink.getvalue()
    text = io.StringIO()
    writer = csv.writer(text, delimiter=FORMATS[kind], lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*map(_cells_of_text, columns.values()), strict=True))
    return text.getvalue().encode()


def _cells_of_text(column: np.ndarray) -> list[Any]:
    """Python's own numbers, which print the fewest digits that give them back; None is empty."""
    cells = column.astype(object)
    cells[missing(column)] = None
    return cells.tolist()
