"""Which cells of the rows a fit takes: finite ones, and NaN where a family can do without them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from ..core.numerics import SLICE, fold_slices
from ..core.tree import is_float
from ..families import Description


def check_missing(missing: Any, described: Description) -> Description:
    """The description, of rows whose cells may be missing where that is asked for.

    Args:
        missing: None leaves it to the family; "ignore" integrates NaN out.
        described: what the fit is of.

    Raises:
        ValueError: for another word.
        TypeError: for a family that needs all cells.
    """
    if missing is None:
        return described
    if missing != "ignore":
        raise ValueError(f"missing must be None or 'ignore', not {missing!r}")
    return described.incomplete()


def checked_cells(
    rows: PyTree, weights: np.ndarray | None, families: Sequence[Description], names: list[str]
) -> PyTree:
    """The rows; an absent one that could not be fitted repeats a present one.

    Raises:
        ValueError: for what is not finite, or off a family's support, naming row and column.
    """
    present = None if weights is None else weights > 0
    try:
        _check(rows, present, families, names)
    except ValueError:
        if present is None or present.all():
            raise
        # as many rows as before: other numbers of absent ones would compile another program
        rows = _with_stand_ins(rows, present)
        _check(rows, present, families, names)
    return rows


def _check(
    rows: PyTree, present: np.ndarray | None, families: Sequence[Description], names: list[str]
) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(rows):
        if not is_float(leaf):
            continue
        name = jax.tree_util.keystr(path, simple=True)
        what = f"column {name!r}" if path else "x"
        if not all(described.may_miss(path) for described in families):
            _refuse(leaf, "NaN or infinite", partial(_remedy, path, families), what, names)
        else:
            _refuse(leaf, "infinite", lambda: "where that means missing, use NaN", what, names)
            _check_seen(leaf, present, what, names)
    for described in families:
        described.check(rows)


def _remedy(path: tuple, families: Sequence[Description]) -> str:
    remedy = "drop or impute those rows"
    if all(described.or_incomplete().may_miss(path) for described in families):
        remedy += ', or leave cells that are NaN out of the likelihood by missing="ignore"'
    return remedy


def _with_stand_ins(rows: PyTree, present: np.ndarray) -> PyTree:
    first = int(np.argmax(present))

    def stand_in(leaf: Any) -> Any:
        where = jnp.where if isinstance(leaf, Array) else np.where
        return where(present.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, leaf[first])

    return jax.tree.map(stand_in, rows)


def _refuse(values: Any, kind: str, remedy: Callable[[], str], what: str, names: list[str]) -> None:
    """Refuses cells; one look without a second array, on the device where it lies."""
    infinite = kind == "infinite"
    if isinstance(values, Array):
        sound = not bool(_has_infinite(values)) if infinite else bool(_all_finite(values))
    else:
        parts = (values[i : i + SLICE] for i in range(0, len(values), SLICE))
        sound = not any(
            (np.isinf(part) if infinite else ~np.isfinite(part)).any() for part in parts
        )
    if sound:
        return
    found = np.asarray(values)
    bad = np.isinf(found) if infinite else ~np.isfinite(found)
    row, *column = np.argwhere(bad)[0]
    where = f", column {_named(column[0], names)}" if column else ""
    raise ValueError(
        f"{what} holds {bad.sum()} {kind} cells, the first at row {row}{where}; {remedy()}"
    )


def _named(column: Any, names: list[str]) -> str:
    return repr(names[column]) if names else str(column)


def _check_seen(values: Any, present: np.ndarray | None, what: str, names: list[str]) -> None:
    """Refuses a column of which no row has a cell."""
    rows = values if present is None else values[present]
    empty = np.asarray(jnp.isnan(rows) if isinstance(rows, Array) else np.isnan(rows)).all(axis=0)
    if not empty.any():
        return
    # a column by itself has a name already
    first = f": column {_named(np.argmax(empty), names)}" if empty.ndim else ""
    raise ValueError(f"all cells of {what} are missing{first}; leave that column out")


@jax.jit
def _all_finite(values: Array) -> Array:
    def finite(part: Array) -> Array:
        return jnp.all(jnp.isfinite(part))

    return fold_slices(finite, jnp.logical_and, jnp.asarray(True), values)


@jax.jit
def _has_infinite(values: Array) -> Array:
    return jnp.any(jnp.isinf(values))
