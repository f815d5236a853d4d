"""The host edge: NumPy checks that say what was received, where, and what to do."""

import warnings
from typing import Any

import numpy as np
from jax import Array
from jax.core import Tracer

SLICE = 65_536
"""Rows that are looked at together: no second array as long as the data."""


def check_rows(x: Any) -> np.ndarray:
    """Rows as a finite floating [n, d] NumPy array, float32 kept, others as float64.

    Raises:
        TypeError: for tracers (use `solve`).
        ValueError: for anything that is not a finite two-dimensional table of numbers.
    """
    if isinstance(x, Tracer):
        raise TypeError("fit cannot be traced: inside jit, vmap or grad use otmix_jax.solve")
    try:
        rows = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"x must be a table of numbers (n, d), not ragged: {error}") from None
    if rows.dtype.kind not in "fiub":
        raise ValueError(f"x must hold real numbers, not {rows.dtype}; encode or drop such columns")
    if rows.ndim != 2:
        hint = "; for one feature use x[:, None]" if rows.ndim == 1 else ""
        raise ValueError(f"x must have two dimensions (n, d), not shape {rows.shape}{hint}")
    if 0 in rows.shape:
        raise ValueError(f"x is empty: shape {rows.shape}; at least one row and column are needed")
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    if not all(np.isfinite(rows[i : i + SLICE]).all() for i in range(0, len(rows), SLICE)):
        bad = ~np.isfinite(rows)
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"x holds {bad.sum()} NaN or infinite cells, the first at row {row}, column {column}; "
            "drop or impute those rows"
        )
    return rows


def check_sample_weight(sample_weight: Any, n: int) -> np.ndarray | None:
    """Weights as a float64 [n] array, or None.

    Raises:
        ValueError: unless there are n finite weights >= 0, one of them > 0.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight)
    if weights.shape != (n,) or weights.dtype.kind not in "fiub":
        raise ValueError(
            f"sample_weight must be {n} numbers, one per row of x, not shape {weights.shape} "
            f"of {weights.dtype}"
        )
    weights = weights.astype(np.float64)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"sample_weight must be finite and >= 0, but {bad.sum()} are not, the first "
            f"({weights[row]}) at row {row}; use 0 to leave a row out"
        )
    if not weights.any():
        raise ValueError("sample_weight is zero for every row: at least one must be positive")
    return weights / weights.max()


def check_count(value: Any, name: str, least: int = 1) -> int:
    """An integer >= least.

    Raises:
        ValueError: for anything else, booleans and floats included.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be an integer >= {least}, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be >= {least}, not {value}")
    return int(value)


def check_components(n_components: Any, row_weight: np.ndarray | None, n: int) -> int:
    """K, at most the number of rows that have weight.

    Raises:
        ValueError: unless 1 <= n_components <= rows present.
    """
    count = check_count(n_components, "n_components")
    present = n if row_weight is None else int(np.count_nonzero(row_weight))
    if count > present:
        raise ValueError(
            f"n_components={count} exceeds the {present} rows with positive weight: "
            "lower n_components"
        )
    return count


def check_number(value: Any, name: str) -> float:
    """A finite number >= 0.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, int | float | np.number | np.ndarray | Array) or not (
        np.ndim(value) == 0 and np.isfinite(value) and value >= 0
    ):
        raise ValueError(f"{name} must be a finite number >= 0, not {value!r}")
    return float(value)


def check_epsilon(epsilon: Any) -> float | None:
    """None, or a finite number >= 0; warns above 1.

    Raises:
        ValueError: for anything else.
    """
    if epsilon is None:
        return None
    value = check_number(epsilon, "epsilon")
    if value > 1:
        warnings.warn(
            f"epsilon={value} > 1 with learned covariances draws components together: where all "
            "are one, every direction of the means grows at 1/epsilon < 1 and EM cannot leave. "
            "Use epsilon <= 1, or fixed covariances.",
            UserWarning,
            stacklevel=3,
        )
    return value


def check_sizes(sizes: Any, n_components: int) -> np.ndarray | None:
    """Target sizes as [k] positive numbers, or None.

    Raises:
        ValueError: for anything else.
    """
    if sizes is None:
        return None
    try:
        numbers = np.asarray(sizes, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"sizes must be {n_components} numbers, not {sizes!r}") from None
    if numbers.shape != (n_components,) or not (np.isfinite(numbers) & (numbers > 0)).all():
        raise ValueError(
            f"sizes must be {n_components} finite numbers > 0, one per component, not {sizes!r}"
        )
    return numbers
