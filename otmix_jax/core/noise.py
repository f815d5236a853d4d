"""Rows with noise of their own, as they are given: which of them are no such rows."""

from typing import Any

import numpy as np

KEYS = frozenset({"x", "covariance", "projection"})
ASYMMETRY = 1e-5
"""Of a covariance, relative to the standard deviations: more is no rounding, even of float32."""


def is_noisy(x: Any) -> bool:
    """Whether rows are a dict of observations with the covariance of their noise."""
    return isinstance(x, dict) and {"x", "covariance"} <= set(x) <= KEYS


def check_noise_shapes(x: Any, n_features: int | None = None) -> None:
    """Refuses rows whose parts do not belong together, by names and shapes alone.

    Args:
        x: {"x": [n, m], "covariance": [n, m] or [n, m, m], "projection": [n, m, d]}.
        n_features: d; None is any.

    Raises:
        ValueError: saying what there is, and what there should be.
    """
    if not is_noisy(x):
        have = sorted(x) if isinstance(x, dict) else type(x).__name__
        raise ValueError(
            "rows with noise are a dict of 'x', 'covariance' and perhaps 'projection', as "
            f"rows.noisy makes them, not {have}"
        )
    shape = tuple(np.shape(x["x"]))
    if len(shape) != 2:
        hint = "; for one feature use x[:, None]" if len(shape) == 1 else ""
        raise ValueError(f"x must have two dimensions (n, m), not shape {shape}{hint}")
    n, m = shape
    noise = tuple(np.shape(x["covariance"]))
    if noise not in ((n, m), (n, m, m)):
        raise ValueError(
            f"covariance must have shape {(n, m, m)}, or {(n, m)} for variances of independent "
            f"cells, not {noise}; for the same noise in all rows use np.broadcast_to"
        )
    width = m
    if "projection" in x:
        told = tuple(np.shape(x["projection"]))
        if len(told) != 3 or told[:2] != (n, m) or told[2] == 0:
            raise ValueError(
                f"projection must have shape (n, m, d) with n = {n} and m = {m}, not {told}: "
                "R_i of the row x_i = R_i v_i + noise"
            )
        width = told[2]
    if n_features is not None and width != n_features:
        raise ValueError(f"rows see vectors of {width} columns, the mixture has {n_features}")


def check_noise(x: dict[str, Any]) -> None:
    """Refuses noise that is no covariance, of rows whose shapes are right.

    Raises:
        ValueError: naming the row, and the column of a variance below 0.
    """
    noise = np.asarray(x["covariance"])
    variance = noise if noise.ndim == 2 else np.diagonal(noise, axis1=1, axis2=2)
    _refuse_negative(variance)
    if "projection" in x:
        _refuse_blind(x, variance)
    if noise.ndim == 2:
        return
    deviation = np.sqrt(variance)
    unit = deviation[:, :, None] * deviation[:, None, :]
    unequal = (np.abs(noise - np.swapaxes(noise, 1, 2)) > ASYMMETRY * unit).any(axis=(1, 2))
    if unequal.any():
        row = int(np.argmax(unequal))
        raise ValueError(
            f"the covariance of row {row} is not symmetric: take half the sum of it and its "
            "transpose"
        )
    # an empty cell has covariance 0 with all others, or the matrix is indefinite
    correlation = noise / np.where(unit > 0, unit, 1)
    least = -16 * noise.shape[1] * max(float(np.finfo(noise.dtype).eps), 1e-10)
    try:
        eye = np.eye(noise.shape[1], dtype=noise.dtype)
        np.linalg.cholesky(correlation - least * eye)
    except np.linalg.LinAlgError:
        lowest = np.linalg.eigvalsh(correlation)[:, 0]
        if (lowest < least).any():
            row = int(np.argmax(lowest < least))
            raise ValueError(
                f"the covariance of row {row} is not positive semidefinite: its correlations have "
                f"the eigenvalue {lowest[row]:.3g}; drop the row, or clip its eigenvalues at 0"
            ) from None


def _refuse_negative(variance: np.ndarray) -> None:
    if (variance < 0).any():
        row, column = np.argwhere(variance < 0)[0]
        raise ValueError(
            f"covariance holds {(variance < 0).sum()} variances below 0, the first "
            f"({variance[row, column]:.3g}) at row {row}, column {column}: drop the row, or take 0 "
            "for a cell that is exact"
        )


def _refuse_blind(x: dict[str, Any], variance: np.ndarray) -> None:
    blind = (variance == 0) & (np.asarray(x["projection"]) == 0).all(axis=-1)
    bad = blind & (np.nan_to_num(np.asarray(x["x"])) != 0)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"row {row} holds something in column {column}, where its projection is 0 and it has "
            "no noise: no vector could be seen so; give the cell noise, or leave it out by NaN"
        )
