"""Rows and weights as users give them: lists, data frames, masked arrays, columns by name.

What is a floating array already (`tree.is_plain`) needs none of this.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import PyTree

from .tree import is_plain


def read_rows(
    x: Any, *, table: bool | None = None, sample_weight: Any = None, missing: bool = False
) -> PyTree:
    """Rows as arrays of real numbers that JAX takes as they are, on a device where they lay there.

    Args:
        x: a table: an array, a list of rows, a data frame; or a dict of columns.
        table: whether they are one table, whose integers become float64. False makes a data frame
            a dict of its columns, in which integers stay codes. None: by what they look like.
        sample_weight: whose zeros mark rows that may hold anything.
        missing: whether cells that are missing, or hidden by a mask, are NaN, not refused.

    Raises:
        ValueError: for what is not real numbers, or hidden by a mask, or missing.
        TypeError: for a sparse matrix.
    """
    _refuse_sparse(x, "x")
    if hasattr(x, "columns"):
        columns = _frame(x, sample_weight, missing)
        real = [np.zeros((len(x), 0)), *map(_real, columns.values())]
        return columns if table is False else np.column_stack(real[1:] or real)
    if isinstance(x, dict):
        return _columns(x, sample_weight, missing)
    if table is not True and _is_tree(x):
        return jax.tree.map(lambda leaf: numbers(leaf, "x", sample_weight, missing), x)
    return _real(numbers(x, "x", sample_weight, missing))


def _is_tree(x: Any) -> bool:
    """Whether columns are arrays in a container, where a list is rows behind one another."""
    if isinstance(x, tuple):
        return all(np.ndim(leaf) for leaf in jax.tree.leaves(x))
    known = x is None or isinstance(x, list) or is_iterator(x)
    return not known and not jax.tree_util.all_leaves([x])


def is_iterator(x: Any) -> bool:
    """Whether it can be read once; JAX must be told that it is no tree."""
    return hasattr(x, "__next__")


def _frame(x: Any, sample_weight: Any, missing: bool) -> dict[str, np.ndarray]:
    names = list(map(str, x.columns))
    if len(set(names)) < len(names):
        raise ValueError(f"the columns of x need different names, not {names}")
    named = zip(names, x.columns, strict=True)
    told = sample_weight, missing
    return {key: numbers(x[name], f"column {key!r}", *told) for key, name in named}  # type: ignore[return-value]


def _columns(x: dict, sample_weight: Any, missing: bool) -> dict[str, Any]:
    """A dict of columns; a part may be a dict again."""
    found = {}
    for name, column in x.items():
        nested, told = isinstance(column, dict), (sample_weight, missing)
        what = f"column {str(name)!r}"
        found[str(name)] = _columns(column, *told) if nested else numbers(column, what, *told)
        if not nested and found[str(name)].ndim == 0:
            raise ValueError(f"{what} must hold numbers, one per row, not {_kind(column)}")
    return found


def numbers(
    values: Any, what: str, sample_weight: Any = None, missing: bool = False
) -> np.ndarray | Array:
    """An array of real, integer or boolean values that JAX takes as they are.

    Floats other than float32 become float64, and so do integers that JAX would wrap.

    Args:
        values: an array, or what NumPy makes one of.
        what: its name in messages.
        sample_weight: see `read_rows`.
        missing: see `read_rows`.

    Raises:
        ValueError: for other values, cells hidden by a mask, or missing ones.
        TypeError: for a sparse matrix.
    """
    if isinstance(values, Array):
        found: Any = values
    else:
        _refuse_sparse(values, what)
        found = _seen(values, what, sample_weight, missing)
    dtype = found.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        wanted = np.dtype(np.float32 if dtype.itemsize == 4 else np.float64)
        # an array of JAX's own never exceeds the widths that it has enabled
        wanted = jax.dtypes.canonicalize_dtype(wanted) if isinstance(found, Array) else wanted
    elif jnp.issubdtype(dtype, jnp.integer) and dtype.kind in "iu":
        wanted = np.float64 if _wraps(found) else dtype.newbyteorder("=")
    elif dtype.kind == "b":
        return found
    else:
        raise ValueError(_no_numbers(values, found, what))
    if dtype == wanted:
        return found
    with np.errstate(over="ignore"):  # beyond float64 it is infinite, which is refused as such
        return found.astype(wanted)


def _array(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{what} must be a table of numbers (n, d), not ragged: {error}") from None


def _real(values: np.ndarray | Array) -> np.ndarray | Array:
    """A table's numbers as floating ones; through NumPy, float64 first."""
    return values if is_plain(values) else values.astype(float)


def _wraps(values: np.ndarray | Array) -> bool:
    """Whether these integers do not fit into those that JAX has enabled."""
    dtype = values.dtype
    short = jax.dtypes.canonicalize_dtype(dtype.newbyteorder("="))
    if short.itemsize >= dtype.itemsize or not values.size:
        return False
    limits = np.iinfo(short)
    return bool(values.min() < limits.min or values.max() > limits.max)


def _no_numbers(values: Any, found: np.ndarray | Array, what: str) -> str:
    if found.ndim == 0:
        return f"{what} must hold numbers: a table of real numbers (n, d), not {_kind(values)}"
    shape = f"{found.dtype} of shape {found.shape}"
    if found.dtype.kind == "O":
        cells = np.asarray(found).flat
        cell = next((cell for cell in cells if not _is_number(cell)), None)
        advice = "cast it with astype(float)" if cell is None else f"such as {cell!r} among them"
        return f"{what} must hold numbers, all of them real numbers, not {shape}: {advice}"
    advice = {
        "c": "take real and imaginary parts as columns of their own",
        "M": "subtract an origin and divide by a unit of time",
        "m": "divide by a unit of time",
    }.get(found.dtype.kind, "cast strings of digits; code categories by rows.codes")
    return f"{what} must hold numbers, all of them real numbers, not {shape}: {advice}"


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float | np.number | np.bool_)


def _kind(values: Any) -> str:
    """What was received, in a few words."""
    name = type(values).__name__
    if values is None or isinstance(values, int | float | complex | str | np.generic):
        return f"{values!r}"
    listed = ": make it a list first" if is_iterator(values) else ""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}{listed}"


def _refuse_sparse(values: Any, what: str) -> None:
    for dense in ("toarray", "todense"):
        if hasattr(values, dense):
            raise TypeError(
                f"{what} is sparse ({type(values).__name__}), and is fitted dense: pass "
                f"{what}.{dense}()"
            )


def _seen(values: Any, what: str, sample_weight: Any, missing: bool) -> np.ndarray:
    """An array, masked and missing cells as NaN or refused; categories' numbers are names."""
    dtype = getattr(values, "dtype", None)
    if str(dtype).lower().startswith(("categor", "enum")):
        raise ValueError(
            f"{what} must hold numbers, not categories ({dtype}): code them by rows.codes"
        )
    look = getattr(values, "isna", None) or getattr(values, "is_null", None)
    if isinstance(values, np.ma.MaskedArray):
        hidden, word = np.ma.getmaskarray(values), "masked"
    elif look is not None and not (isinstance(dtype, np.dtype) and dtype.kind != "O"):
        hidden, word = np.asarray(look()), "missing"
    else:  # a NaN of NumPy's is a value, for which there is a status
        found = _array(values, what)
        if not missing or found.dtype.kind != "O":
            return found
        hidden, word = np.equal(found, None).astype(bool), ""  # type: ignore[call-overload]
    if missing and hidden.any():
        return _with_nan(values, hidden, what)
    _refuse_hidden(hidden, word, what, sample_weight)
    return _array(values, what)


def _with_nan(values: Any, hidden: np.ndarray, what: str) -> np.ndarray:
    """The visible cells as numbers, and NaN."""
    cells = np.asarray(values)
    visible, found = cells[~hidden], np.full(hidden.shape, np.nan)
    if visible.dtype.kind not in "fiub" and not all(map(_is_number, visible)):
        raise ValueError(_no_numbers(values, cells, what))
    found[~hidden] = visible
    return found


def _refuse_hidden(hidden: np.ndarray, word: str, what: str, sample_weight: Any) -> None:
    absent = _absent(sample_weight)
    if absent is not None and len(absent) == len(hidden):
        hidden = hidden & ~absent.reshape(-1, *(1,) * (hidden.ndim - 1))
    if hidden.any():
        row, *column = np.argwhere(hidden)[0]
        where = f", column {column[0]}" if column else ""
        raise ValueError(
            f"{what} has {hidden.sum()} {word} cells, the first at row {row}{where}; drop or "
            "impute those rows"
        )


def _absent(sample_weight: Any) -> np.ndarray | None:
    """[n] where weights are 0, if they are there to be seen."""
    if sample_weight is None or isinstance(sample_weight, Tracer):
        return None
    weights = np.asarray(sample_weight)
    return weights == 0 if weights.ndim == 1 and weights.dtype.kind in "fiub" else None
