"""Convergence curves."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ..model import Solution


def history(solutions: Mapping[str, Solution], *, axes: Axes | None = None) -> Axes:
    """Draws how far each run's value is above the lowest of them all, per step, on log scales.

    Args:
        solutions: runs on the same data, by name.
        axes: where to draw; a new figure by default.
    """
    axes = axes or plt.subplots()[1]
    curves = {name: np.asarray(solution.history) for name, solution in solutions.items()}
    best = min(np.nanmin(curve) for curve in curves.values())
    for name, curve in curves.items():
        recorded = curve[~np.isnan(curve)]
        gap = np.maximum(recorded - best, np.finfo(recorded.dtype).eps)
        axes.loglog(np.arange(1, len(gap) + 1), gap, label=f"{name}, {len(gap) - 1} steps")
    axes.set_xlabel("step + 1")
    axes.set_ylabel("value above the best (nats per row)")
    axes.legend()
    return axes
