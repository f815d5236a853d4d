"""Convergence: values by step, and what the certificate says is left."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from ..core.status import Status
from ..model import Solution
from .canvas import COLOURS, colour, dashes, key, one


def history(solutions: Mapping[str, Solution], *, axes: Axes | None = None) -> Axes:
    """Draws how far each run's value is above the lowest of them all, per step, on log scales.

    Args:
        solutions: runs on the same data, by name.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: for no runs, or a run that recorded nothing.
    """
    curves = {name: recorded(solution) for name, solution in solutions.items()}
    if not curves:
        raise ValueError("there are no runs to draw: solutions= is empty")
    best = min(curve.min() for curve in curves.values())
    axes = one(axes)
    for j, (name, curve) in enumerate(curves.items()):
        gap = np.maximum(curve - best, np.finfo(curve.dtype).eps)
        steps, style = np.arange(1, len(gap) + 1), {"color": colour(j), "ls": dashes(j)}
        axes.loglog(steps, gap, label=f"{name}, {len(gap) - 1} steps", **style)
    axes.set_xlabel("step + 1")
    axes.set_ylabel("value above the best (nats per row)")
    key(axes)
    return axes


def convergence(solution: Solution, *, axes: Axes | None = None) -> Axes:
    """Draws how far a run's value was above its limit, per step, with what the certificate bounds.

    The limit is the last value less `certificate.aitken_gap`, which is what further steps are
    estimated to win. The band reaches from there up to `certificate.weights_gap`: what better
    proportions alone can win at most, of a semi-relaxed problem.

    Args:
        solution: what `fit` or `solve` returned: one, not a batch.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: for a batch, or a run that recorded nothing.
    """
    curve = recorded(solution)
    smallest = float(np.finfo(curve.dtype).eps)
    estimate = float(solution.certificate.aitken_gap)
    estimate = estimate if np.isfinite(estimate) else 0.0
    bound = float(solution.certificate.weights_gap)
    last = float(solution.value)
    above = np.maximum(curve - (last - estimate), smallest)
    axes = one(axes)
    axes.semilogy(np.arange(len(above)), above, marker=".", color=COLOURS[0], label="value")
    ends = sorted(max(gap, smallest) for gap in (estimate, bound) if np.isfinite(gap))
    if ends:
        text = f"left: about {estimate:.0e}; by sizes\nalone {bound:.0e} at most"
        axes.axhspan(ends[0], ends[-1], color=COLOURS[4], alpha=0.3, lw=0, label=text)
    status = Status(int(solution.status)).name
    axes.set_xlabel(f"step ({status} after {int(solution.n_steps)})")
    axes.set_ylabel("value above its limit (nats per row)")
    key(axes)
    return axes


def recorded(solution: Solution) -> Float[np.ndarray, " t"]:
    """The values of the steps that were recorded.

    Raises:
        ValueError: for a batch of solutions, and where there are none.
    """
    curve = np.asarray(solution.history)
    if curve.ndim != 1:
        raise ValueError("the solution is a batch: draw one of them, such as batch[0]")
    curve = curve[np.isfinite(curve)]
    if not curve.size:
        raise ValueError(
            "the run recorded no values: fit with limits=om.Limits(history_size=...) or more steps"
        )
    return curve
