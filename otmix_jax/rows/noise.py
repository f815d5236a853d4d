"""Rows with noise of their own."""

from typing import Any

import numpy as np

from ..core.noise import check_noise, check_noise_shapes
from ..core.reading import numbers, read_rows


def noisy(x: Any, *, covariance: Any, projection: Any = None) -> dict[str, Any]:
    """Rows x_i = R_i v_i + noise of covariance S_i, for `families.Noisy`: a mixture of the v_i.

    Args:
        x: [n, m] what was observed, as `fit` takes a table; NaN where a cell is missing, which
            goes with missing="ignore".
        covariance: S: [n, m, m] symmetric and positive semidefinite, or [n, m] variances of cells
            whose noise is independent; 0 for what is exact. In squared units of x.
        projection: R: [n, m, d], or [m, d] for all rows; None is the identity.

    Returns:
        {"x": [n, m], "covariance": S, "projection": [n, m, d] if given}, in the precision of x.

    Raises:
        ValueError: for shapes that do not belong together, and for noise that is no covariance,
            naming the row.

    Example:
        >>> import numpy as np, otmix_jax as om
        >>> rng = np.random.default_rng(0)
        >>> noise = rng.uniform(0.1, 2.0, 400)
        >>> x = rng.choice([-3.0, 3.0], 400) + rng.normal(0, np.sqrt(0.25 + noise))
        >>> rows = om.rows.noisy(x[:, None], covariance=noise[:, None])
        >>> om.fit(rows, 2, key=0).mixture.components.mean.round(0).tolist()
        [[3.0], [-3.0]]
    """
    table = read_rows(x, table=True, missing=True)
    table = table if hasattr(table, "dtype") else np.asarray(table)
    rows = {"x": table, "covariance": numbers(covariance, "covariance")}
    if projection is not None:
        told = numbers(projection, "projection")
        shared = told.ndim == 2
        rows["projection"] = np.broadcast_to(told, (len(table), *told.shape)) if shared else told
    check_noise_shapes(rows)
    for name in ("covariance", "projection"):
        if name in rows:
            rows[name] = rows[name].astype(table.dtype)
            _refuse_infinite(rows[name], name)
    check_noise(rows)
    return rows


def _refuse_infinite(values: Any, name: str) -> None:
    bad = ~np.isfinite(np.asarray(values))
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        remedy = (
            "leave a cell out by NaN in x, not by infinite noise" if name == "covariance" else ""
        )
        remedy = remedy or "a projection needs finite numbers"
        raise ValueError(
            f"{name} holds {bad.sum()} cells that are not finite, the first at row {row}: {remedy}"
        )
