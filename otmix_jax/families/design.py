"""The frame of regressions: features without correlation, a response about its common fit."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..core.numerics import einsum, matmul
from ..core.tree import pytree
from .coordinates import Frame, power_of_two

COLUMNS = ("y", "features", "offset", "trials", "shared")
"""What the rows of a regression are made of."""


@pytree
class Standardised(Frame):
    """Features times a matrix; and where the response is real, its residual over a unit.

        features W        shared V        (y - features o) / u        offset / u

    Coefficients are then of order one whatever the units of features and response, and large
    offsets of either cost no digits.

    Attributes:
        features: [p, p] W, invertible.
        shared: [s, s] V, or None without shared features.
        origin: [p] o, coefficients; None: the response stays as it is.
        unit: u > 0, or None with `origin`.
    """

    features: Any
    shared: Any = None
    origin: Any = None
    unit: Any = None

    def into(self, x: Any) -> Any:
        """See `Frame.into`."""
        framed = dict(x) | {"features": _times(x["features"], self.features)}
        if self.shared is not None:
            framed["shared"] = _times(x["shared"], self.shared)
        if self.origin is not None:
            common = _times(x["features"], self.origin[..., None])[..., 0]
            framed["y"] = (x["y"] - common) / self.unit
            if "offset" in x:
                framed["offset"] = x["offset"] / self.unit
        return framed

    @property
    def columns(self) -> Any:
        """The unit of the response."""
        return 1.0 if self.unit is None else self.unit

    @property
    def log_volume(self) -> Any:
        """Log u."""
        return 0.0 if self.unit is None else jnp.log(self.unit)

    @property
    def inverse(self) -> "Standardised":
        """See `Frame.inverse`."""
        back = _inverse(self.features)
        shared = None if self.shared is None else _inverse(self.shared)
        if self.origin is None:
            return Standardised(back, shared)
        return Standardised(back, shared, -(back @ self.origin) / self.unit, 1 / self.unit)

    @classmethod
    def of(cls, x: Any, weight: Any, begins: Any = None, residual: bool = False) -> "Standardised":
        """The frame of rows (NumPy); with `begins`, one for each group of them.

        Args:
            x: y [n], features [n, p], and what else there is.
            weight: [n], or None.
            begins: where groups of rows begin.
            residual: whether the response is real.
        """
        least = dependent(np.asarray(x["features"]).dtype)
        x = {name: np.asarray(leaf, np.float64) for name, leaf in x.items()}
        weight = np.ones(len(x["y"])) if weight is None else np.asarray(weight, np.float64)
        if begins is None:
            return cls._one(x, weight, residual, least)
        parts = list(zip(begins, [*begins[1:], len(weight)], strict=True))
        found = [
            cls._one({n: leaf[a:b] for n, leaf in x.items()}, weight[a:b], residual, least)
            for a, b in parts
        ]
        return cls(
            *(_stacked([getattr(one, name) for one in found]) for name in cls.__annotations__)
        )

    @classmethod
    def _one(
        cls, x: dict[str, np.ndarray], weight: np.ndarray, residual: bool, least: float
    ) -> "Standardised":
        present = weight > 0
        root = np.sqrt(weight[present] / weight.sum())[:, None]
        features = root * x["features"][present]
        matrix, follows = whitening(features, least)
        shared = whitening(root * x["shared"][present], least)[0] if "shared" in x else None
        if not residual:
            return cls(matrix, shared)
        y = x["y"] - x.get("offset", 0)
        # orthonormal: the common fit is a product; what follows from other columns stays out of it
        white = np.where(follows, 0, features @ matrix)
        origin = matrix @ (white.T @ (root[:, 0] * y[present]))
        extent, largest = (np.abs(v)[present].max() for v in (y, y - x["features"] @ origin))
        # what is left of a response that follows from the features is rounding, and no unit
        return cls(
            matrix, shared, origin, power_of_two(largest if largest > least * extent else extent)
        )


def whitening(columns: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """[p, p] upper triangular W, and which columns follow from earlier ones.

    The others are orthonormal in columns @ W; those only have length one. By Gram-Schmidt, twice:
    by the Gram matrix half the digits would go.
    """
    p = columns.shape[1]
    basis, matrix, follows = np.zeros_like(columns), np.zeros((p, p)), np.zeros(p, bool)
    for j in range(p):
        length = np.linalg.norm(columns[:, j])
        matrix[j, j] = 1 / length if length > 0 else 1
        left, way = columns[:, j] * matrix[j, j], matrix[:, j].copy()
        for _ in range(2):
            along = basis.T @ left
            left, way = left - basis @ along, way - matrix @ along
        rest = np.linalg.norm(left)
        follows[j] = rest <= least
        if not follows[j]:
            basis[:, j], matrix[:, j] = left / rest, way / rest
    return matrix, follows


def dependent(dtype: Any) -> float:
    """The share of a column that is rounding, where it follows from others."""
    real = dtype if np.issubdtype(dtype, np.floating) else np.float64
    return 1e3 * float(np.finfo(real).eps)


def _times(columns: Any, matrix: Any) -> Any:
    if isinstance(columns, Array) or isinstance(matrix, Array):
        columns, matrix = jnp.asarray(columns), jnp.asarray(matrix)
        if matrix.ndim == 3:
            return einsum("np,npq->nq", columns, matrix)
        return matmul(columns, matrix)
    return np.einsum("np,npq->nq", columns, matrix) if matrix.ndim == 3 else columns @ matrix


def _inverse(matrix: Any) -> Any:
    return jnp.linalg.inv(matrix) if isinstance(matrix, Array) else np.linalg.inv(matrix)


def _stacked(parts: list) -> Any:
    return None if parts[0] is None else np.stack(parts)


def check_columns(x: Any, name: str) -> None:
    """Refuses rows that are no regression's, and warns of features that follow from others.

    Raises:
        ValueError: saying what there should be.
    """
    if not isinstance(x, dict) or not {"y", "features"} <= set(x) <= set(COLUMNS):
        have = sorted(x) if isinstance(x, dict) else type(x).__name__
        raise ValueError(
            f"{name} takes a dict of 'y' and 'features', and of 'offset', 'trials' and 'shared' "
            f"where there are, as its rows (see rows.regression), not {have}"
        )
    for key, leaf in x.items():
        wanted = 2 if key in ("features", "shared") else 1
        shape = np.shape(leaf)
        if len(shape) != wanted or shape[-1] == 0:
            form = "(n, p)" if wanted == 2 else "(n,)"
            raise ValueError(f"column {key!r} must have shape {form}, not {shape}")
    columns = np.concatenate([np.asarray(x[key]) for key in ("features", "shared") if key in x], 1)
    follows = whitening(columns.astype(np.float64), dependent(columns.dtype))[1]
    if follows.any():
        which, width = np.flatnonzero(follows), np.shape(x["features"])[1]
        named = [f"features {i}" if i < width else f"shared {i - width}" for i in which]
        warnings.warn(
            f"{', '.join(named)} follow from the columns before: their coefficients are not "
            "determined, stay 0, and have no standard errors; leave them out",
            UserWarning,
            stacklevel=6,
        )


def real_columns(x: Any) -> Any:
    """Rows with their integers as real numbers, of the precision of the others."""
    real = [leaf.dtype for leaf in x.values() if np.issubdtype(leaf.dtype, np.floating)]
    dtype = np.result_type(*real) if real else np.dtype(float)
    return {
        name: leaf if np.issubdtype(leaf.dtype, np.floating) else leaf.astype(dtype)
        for name, leaf in x.items()
    }
