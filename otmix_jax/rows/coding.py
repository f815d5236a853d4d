"""Categories of any kind as codes, and the way back."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float


def codes(
    frame: Any, levels: Mapping[Any, Sequence[Any]] | None = None
) -> tuple[Float[np.ndarray, "n d"], dict[Any, tuple[Any, ...]]]:
    """Codes 0, 1, 2, ... of categories, for `families.Categorical`.

    Args:
        frame: a data frame, a dict of columns, or a table [n, d] of strings or other values.
        levels: the categories of each column by its name (its number, in a table) in the order of
            their codes, as an earlier call returned them; by default those of a column of
            categories, else the values that there are, sorted.

    Returns:
        The codes [n, d], NaN for a cell that is missing (None, NaN, or the frame's own mark), and
        the levels by column.

    Raises:
        ValueError: for a category that is none of the levels given, by its row and column.

    Example:
        >>> import otmix_jax as om
        >>> table, levels = om.rows.codes({"sex": ["f", "m", None], "answer": ["no", "yes", "no"]})
        >>> table.tolist(), levels["answer"]
        ([[0.0, 0.0], [1.0, 1.0], [nan, 0.0]], ('no', 'yes'))
    """
    columns = _columns(frame)
    known = dict(levels or {})
    for name in set(known) - set(columns):
        raise ValueError(f"levels has a column {name!r}, the rows have {list(columns)}")
    found, table = {}, []
    for name, column in columns.items():
        values = [None if _is_missing(value) else value for value in _values(column)]
        found[name] = tuple(known[name]) if name in known else _levels(column, values)
        table.append(_coded(values, found[name], name))
    if len({len(column) for column in table}) > 1:
        lengths = dict(zip(columns, map(len, table), strict=True))
        raise ValueError(f"the columns need one length, not {lengths}")
    return np.column_stack(table), found


def _columns(frame: Any) -> dict[Any, Any]:
    if hasattr(frame, "columns"):
        return {name: frame[name] for name in frame.columns}
    if isinstance(frame, Mapping):
        return dict(frame)
    table = np.asarray(frame, object)
    if table.ndim != 2:
        hint = "; for one column use x[:, None]" if table.ndim == 1 else ""
        raise ValueError(f"a table of categories must have two dimensions{hint}")
    return dict(enumerate(table.T))


def _values(column: Any) -> list[Any]:
    """Cells as Python's own: a NumPy string or number is equal to it, but sorts by another type."""
    return [v.item() if isinstance(v, np.generic) else v for v in np.asarray(column, object)]


def _is_missing(value: Any) -> bool:
    # the marks of data frames cannot be compared
    marked = value is None or type(value).__name__ in ("NAType", "NaTType")
    return marked or (isinstance(value, float) and math.isnan(value))


def _levels(column: Any, values: Iterable[Any]) -> tuple[Any, ...]:
    categories = getattr(getattr(column, "cat", None), "categories", None)
    if categories is not None:
        return tuple(_values(categories))
    seen = {value for value in values if value is not None}
    try:
        return tuple(sorted(seen))
    except TypeError:  # of several types
        return tuple(sorted(seen, key=lambda value: (type(value).__name__, str(value))))


def _coded(values: list[Any], levels: tuple[Any, ...], name: Any) -> Float[np.ndarray, " n"]:
    number = {level: float(code) for code, level in enumerate(levels)}
    for row, value in enumerate(values):
        if value is not None and value not in number:
            raise ValueError(
                f"row {row}, column {name!r} holds {value!r}, which is none of the levels "
                f"{list(levels)}"
            )
    return np.array([np.nan if value is None else number[value] for value in values])
