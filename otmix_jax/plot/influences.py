"""How much each row moves a parameter."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm

from .canvas import COLOURS, RISING, one, thinned

NAMED = 3
"""Rows of the largest influence that are called by their numbers."""


def influence(
    values: Any,
    x: Any = None,
    *,
    columns: Any = None,
    label: str = "influence",
    axes: Axes | None = None,
) -> Axes:
    """Draws what `jax.grad` of a fitted quantity says of each row.

    [n] numbers (a derivative in the rows' weights, or a column of one in the rows) are points
    coloured from negative to positive, the larger the farther from 0; without x they are stems by
    row. [n, 2] numbers (a derivative in two columns of rows) are arrows: where the quantity rises
    if the row moves that way.

    Args:
        values: [n] or [n, 2].
        x: [n, d] rows; the first two columns are drawn. A single one is drawn against the values.
        columns: names of the columns.
        label: what the values are, with their unit.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: for values that are not finite, or of another shape, or rows of another number.
    """
    found, at = np.asarray(values, float), _table(x)
    if found.ndim not in (1, 2) or not found.size or found.shape[1:] not in ((), (2,)):
        raise ValueError(f"values must have shape [n] or [n, 2], not {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError("values must be finite: a derivative of a run that failed is NaN")
    if at is not None and len(at) != len(found):
        raise ValueError(f"there are {len(found)} values for {len(at)} rows")
    if found.ndim == 2 and (at is None or at.shape[1] < 2):
        raise ValueError("arrows need the rows they start from: give x of two columns")
    names = list(map(str, getattr(x, "columns", ()) if columns is None else columns))
    names += [f"column {a}" for a in range(len(names), 2)]
    axes = one(axes)
    if at is None or at.shape[1] == 1:
        _stems(axes, found, at, names[0], label)
    elif found.ndim == 1:
        _points(axes, found, at, label)
        axes.set(xlabel=names[0], ylabel=names[1])
    else:
        _arrows(axes, found, at, label)
        axes.set(xlabel=names[0], ylabel=names[1])
    return axes


def _table(x: Any) -> np.ndarray | None:
    if x is None:
        return None
    found = np.asarray(x, float)
    return found[:, None] if found.ndim == 1 else found


def _name_largest(axes: Axes, at: Float[np.ndarray, "n 2"], size: np.ndarray) -> None:
    """Numbers of the rows of the largest influence, but for neighbours of one that has one."""
    extent = np.ptp(at, axis=0)
    extent = np.where(extent > 0, extent, 1)
    named: list[int] = []
    low = at.min(axis=0)
    for row in np.argsort(size)[::-1].tolist():
        gaps = [np.abs((at[row] - at[other]) / extent) for other in named]
        if size[row] > 0 and all(gap[0] > 0.2 or gap[1] > 0.07 for gap in gaps):
            # away from the edges, which would cut it off
            right, high = (at[row] - low) / extent > (0.75, 0.9)
            style: dict[str, Any] = {"fontsize": "small", "color": "0.2"}
            style |= {"ha": "right" if right else "left", "va": "top" if high else "bottom"}
            offset = (-6 if right else 6, -4 if high else 4)
            axes.annotate(f"row {row}", tuple(at[row]), offset, textcoords="offset points", **style)
            named.append(row)
        if len(named) == NAMED:
            return


def _stems(axes: Axes, found: np.ndarray, at: np.ndarray | None, name: str, label: str) -> None:
    place = np.arange(len(found)) if at is None else at[:, 0]
    colours = np.where(found[:, None] < 0, COLOURS[0], COLOURS[1])
    axes.vlines(place, 0, found, colors=colours, linewidth=1, rasterized=len(found) > 1000)
    axes.scatter(place, found, c=colours, s=10, linewidths=0, rasterized=len(found) > 1000)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.margins(0.1)
    _name_largest(axes, np.column_stack([place, found]), np.abs(found))
    axes.set(xlabel="row" if at is None else name, ylabel=label)


def _points(axes: Axes, found: np.ndarray, at: np.ndarray, label: str) -> None:
    size = np.abs(found)
    most = float(size.max()) or 1.0
    # the largest on top
    order = np.argsort(size)
    order = order[np.sort(len(order) - 1 - thinned(len(order)))]
    points = axes.scatter(
        at[order, 0],
        at[order, 1],
        c=found[order],
        s=10 + 70 * size[order] / most,
        cmap="PuOr_r",
        norm=TwoSlopeNorm(0, -most, most),
        linewidths=0.4,
        edgecolors="0.4",
        rasterized=len(order) > 1000,
    )
    _name_largest(axes, at[:, :2], size)
    axes.figure.colorbar(points, ax=axes, label=label)


def _arrows(axes: Axes, found: np.ndarray, at: np.ndarray, label: str) -> None:
    # a column's unit is its spread: an arrow is a move of so many deviations
    spread = np.nanstd(at[:, :2], axis=0)
    pull = found * np.where(spread > 0, spread, 1)
    size = np.hypot(*pull.T)
    drawn = thinned(len(at))
    axes.scatter(at[drawn, 0], at[drawn, 1], s=5, color="0.75", linewidths=0)
    arrows = axes.quiver(
        at[drawn, 0],
        at[drawn, 1],
        *pull[drawn].T,
        size[drawn],
        cmap=RISING,
        width=0.004,
        pivot="tail",
    )
    axes.figure.colorbar(arrows, ax=axes, label=f"{label}, per deviation of the columns")
    axes.margins(0.08)
