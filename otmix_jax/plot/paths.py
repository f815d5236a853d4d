"""What becomes of components along a path of rho or epsilon."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from ..model import Mixture, Solution
from ..transport import Plan
from .canvas import called, dashes, key, one, palette
from .scenes import row_shares

LABELS = {
    "sizes": "size of the component",
    "means": "mean",
    "entropy": "entropy of a row's plan (nats)",
    "value": "value (nats per row)",
}
"""What can be drawn, and the axis it gets."""


def path(
    values: Any,
    answers: Sequence[Any],
    *,
    of: str = "sizes",
    parameter: str = "rho",
    column: int = 0,
    axes: Axes | None = None,
) -> Axes:
    """Draws sizes, means, entropy or value along a path of rho, epsilon, or any other number.

    Numbers of more than a factor of 20 are on a log scale, on which 0 and infinity have a place
    at the ends.

    Args:
        values: [m] the numbers along the path, in any order; rho and epsilon may be 0 or infinite.
        answers: [m] for each a `Solution`, a `Mixture` or a `Plan`. Start each fit from the last
            one's mixture: then components keep their numbers (`inference.match` pairs others).
        of: "sizes": proportions, of a plan its column sums; "means": of one column; "entropy": of
            a row's shares, on average (plans); "value": of solutions and plans.
        parameter: what the axis is called.
        column: whose means.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: for another number of answers, values that are no path, or a quantity that the
            answers do not have.
    """
    at = np.asarray(values, float)
    if at.ndim != 1 or not at.size or len(at) != len(answers):
        raise ValueError(f"there are {at.size} values for {len(answers)} answers: give one each")
    if np.isnan(at).any() or (at < 0).any():
        raise ValueError(f"values must be >= 0 or infinite, not {at.tolist()}")
    if of not in LABELS:
        raise ValueError(f"of= must be one of {list(LABELS)}, not {of!r}")
    order = np.argsort(at)
    lines = np.stack([_quantity(answers[i], of, column) for i in order])
    axes = one(axes)
    places = _places(axes, at[order])
    k = lines.shape[1]
    for j in range(k):
        style: dict[str, Any] = {"color": palette(k)[j], "ls": dashes(j), "marker": "."}
        axes.plot(places, lines[:, j], label=called(j) if k > 1 else None, **style)
    axes.set_xlabel(parameter)
    axes.set_ylabel(f"{LABELS[of]} of column {column}" if of == "means" else LABELS[of])
    key(axes)
    return axes


def _quantity(answer: Any, of: str, column: int) -> Float[np.ndarray, " q"]:
    """One number for each component, or one.

    Raises:
        ValueError: for answers that do not have it.
    """
    mixture = answer.mixture if isinstance(answer, Solution) else answer
    found: Any = None
    if of == "value" and isinstance(answer, Solution | Plan):
        found = answer.value
    elif of == "sizes" and isinstance(answer, Plan):
        found = answer.column_marginal
    elif of == "sizes" and isinstance(mixture, Mixture):
        found = mixture.weights
    elif of == "entropy" and isinstance(answer, Plan):
        found = _entropy(np.asarray(answer.matrix, float))
    elif of == "means" and isinstance(mixture, Mixture):
        found = mixture.components.moments()[0][:, column]
    if found is None:
        raise ValueError(f"{type(answer).__name__} has no {of} to draw: see plot.path")
    found = np.atleast_1d(np.asarray(found, float))
    if found.ndim != 1:
        raise ValueError("the answers are batches: give a list of single ones, such as batch[0]")
    return found


def _entropy(mass: Float[np.ndarray, "n k"]) -> float:
    """-sum_j p_ij log p_ij of each row's shares p_i, averaged by the rows' mass."""
    share, row = row_shares(mass), mass.sum(axis=1)
    logs = np.log(np.where(share > 0, share, 1))
    return float(-(row @ (share * logs).sum(axis=1)) / row.sum())


def _places(axes: Axes, at: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Where values stand on the axis: 0 and infinity a step beyond the others on a log scale."""
    inside = at[(at > 0) & np.isfinite(at)]
    wide = inside.size and inside.max() / inside.min() > 20
    if np.isfinite(at).all() and not wide:
        return at
    low, high = (inside.min(), inside.max()) if inside.size else (1.0, 1.0)
    step = max((high / low) ** 0.12, 2.0)
    places = np.where(at == 0, low / step, np.where(np.isinf(at), high * step, at))
    axes.set_xscale("log")
    ends = {low / step: "0"} if (at == 0).any() else {}
    ends |= {high * step: "∞"} if np.isinf(at).any() else {}
    decades = np.arange(np.ceil(np.log10(low) - 1e-9), np.floor(np.log10(high) + 1e-9) + 1)
    decades = decades[:: max(1, len(decades) // 6)]
    ticks = {10.0**d: f"$10^{{{int(d)}}}$" for d in decades} or {low: f"{low:.3g}"}
    ticks |= ends
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    return places
