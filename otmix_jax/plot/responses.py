"""Regressions: the response against a feature, under each component's mean response."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .canvas import called, colour, dashes, key, scatter
from .scenes import Scene

GRID = 200
"""Points of a curve."""


def response(axes: Axes, view: Scene) -> None:
    """The response against the first feature that varies, coloured by the plan.

    Curves are mean responses with the other features, offsets and trials at their means.
    """
    rows = view.x
    features = np.asarray(rows["features"], float)
    varies = np.nonzero(np.ptp(features, axis=0) > 0)[0]
    a = int(varies[0]) if len(varies) else 0
    x, y = features[:, a], np.asarray(rows["y"], float)
    scatter(axes, np.column_stack([x, y]), view.plan, view.share)
    grid = np.linspace(x.min(), x.max(), GRID)
    along = {name: _held(leaf, view.share) for name, leaf in rows.items() if name != "y"}
    along["features"][:, a] = grid
    expected = np.asarray(view.components.expected(along))
    for j in view.present:
        style = {"color": colour(j), "ls": dashes(j), "linewidth": 2}
        axes.plot(grid, expected[:, j], label=called(j, float(view.weights[j])), **style)
    axes.set_xlabel(view.names[a] if a < len(view.names) else f"feature {a}")
    axes.set_ylabel(view.response)
    key(axes)


def _held(leaf: Any, share: np.ndarray) -> np.ndarray:
    """The rows' mean, once for each point of the curve."""
    mean = np.average(np.asarray(leaf, float), axis=0, weights=share)
    return np.repeat(mean[None], GRID, axis=0)
