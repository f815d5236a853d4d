"""A criterion over the number of components."""

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..fitting import Choice
from .canvas import colour, dashes, key, one

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

    Raises:
        ValueError: where all candidates failed.
    """
    healthy = [candidate for candidate in choice.candidates if candidate.healthy]
    if not healthy:
        raise ValueError("all candidates failed: print the choice, which says how")
    structures = list(dict.fromkeys(candidate.covariance for candidate in healthy))
    axes = one(axes)
    for j, structure in enumerate(structures):
        mine = [candidate for candidate in healthy if candidate.covariance == structure]
        mine.sort(key=lambda candidate: candidate.n_components)
        numbers = [candidate.n_components for candidate in mine]
        style = {"color": colour(j), "ls": dashes(j), "marker": "o"}
        scores = [choice.score(candidate) for candidate in mine]
        axes.plot(numbers, scores, label=str(structure), **style)
    best = choice.best_candidate
    at = best.n_components, choice.score(best)
    axes.plot(*at, "k*", markersize=14, label="best", linestyle="")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("number of components K")
    axes.set_ylabel(NAMES[choice.criterion])
    key(axes)
    return axes
