"""A criterion over the number of components."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from ..fitting import Choice

NAMES = {
    "bic": "BIC (lower is better)",
    "aic": "AIC (lower is better)",
    "icl": "ICL (lower is better)",
    "cross_validation": "held-out negative log-likelihood (nats per row)",
}


def criterion(choice: Choice, *, axes: Axes | None = None) -> Axes:
    """Draws the criterion against K, a curve per covariance structure; failures are left out.

    Args:
        choice: what `select` returned.
        axes: where to draw; a new figure by default.
    """
    axes = axes or plt.subplots()[1]
    for structure in dict.fromkeys(one.covariance for one in choice.candidates):
        mine = [one for one in choice.candidates if one.covariance == structure and one.healthy]
        mine.sort(key=lambda one: one.n_components)
        counts = [one.n_components for one in mine]
        axes.plot(counts, [choice.score(one) for one in mine], marker="o", label=str(structure))
    best = choice.best_candidate
    axes.plot(
        best.n_components, choice.score(best), "k*", markersize=14, label="best", linestyle=""
    )
    axes.set_xlabel("number of components K")
    axes.set_ylabel(NAMES[choice.criterion])
    axes.legend()
    return axes
