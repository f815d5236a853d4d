"""Many cheap starts of several kinds, drawn on the host: labels of rows, for any family.

No single kind finds the best optimum of all data. What misses one misses it nearly always, so a
few draws of each kind are worth more than many of one.
"""

import numpy as np
from jaxtyping import Float, Int

KINDS = (
    "stretched",
    "rows",
    "stretched",
    "kmeans",
    "stretched",
    "white rows",
    "stretched",
    "white",
)
"""In turn: half of the draws see rows in a random metric, an eighth each is of another kind."""
ROUNDS = 10
"""Of Lloyd's k-means."""


def portfolio(
    z: Float[np.ndarray, "n e"],
    weight: Float[np.ndarray, " n"],
    n_components: int,
    count: int,
    rng: np.random.Generator,
) -> tuple[Int[np.ndarray, "s n"], np.ndarray]:
    """Labels [s, n] of starts, and whether each [s] is to start from its groups' own shapes.

    The kinds: k-means++ seeds in white rows that are turned at random and stretched by e^N(0, 1)
    along each axis ("stretched"); rows drawn by weight, of which only the centres count; and
    k-means, in standardised and in white rows.

    Args:
        z: rows as columns in which distances mean something.
        weight: >= 0, of any positive sum.
        n_components: K.
        count: s.
        rng: where the draws come from.
    """
    standard, white = _standardised(z, weight), _white(z, weight)
    kinds = np.array([KINDS[i % len(KINDS)] for i in range(count)])
    labels = np.empty((count, len(z)), int)
    for kind in np.unique(kinds):
        mine = np.flatnonzero(kinds == kind)
        space = standard if kind in ("rows", "kmeans") else white
        spaces = np.broadcast_to(space, (len(mine), *space.shape))
        if kind == "stretched":
            spaces = np.stack([_stretched(space, rng) for _ in mine])
        if "rows" in kind:
            centres = _rows(spaces, weight, n_components, rng)
        else:
            centres = _plus_plus(spaces, weight, n_components, rng)
        if kind in ("kmeans", "white"):
            centres = _lloyd(spaces, weight, centres)
        labels[mine] = _nearest(spaces, centres)
    return labels, np.array(["rows" not in kind for kind in kinds])


def _standardised(z: np.ndarray, weight: np.ndarray) -> np.ndarray:
    mean = np.average(z, axis=0, weights=weight)
    scale = np.sqrt(np.average((z - mean) ** 2, axis=0, weights=weight))
    # the mean of a constant column is off by its rounding
    varies = scale > 8 * np.finfo(float).eps * np.abs(mean)
    return np.where(varies, (z - mean) / np.where(varies, scale, 1), 0)


def _white(z: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows of unit covariance; directions without extent stay without."""
    standard = _standardised(z, weight)
    value, axis = np.linalg.eigh((standard.T * weight) @ standard / weight.sum())
    present = value > 1e-10 * max(value[-1], 1e-300)
    return standard @ axis[:, present] / np.sqrt(value[present])


def _stretched(white: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    width = white.shape[1]
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return white @ turn * np.exp(rng.normal(size=width))


def _rows(spaces: np.ndarray, weight: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """K distinct rows each, by weight: the largest of exponential clocks."""
    clocks = rng.exponential(size=(len(spaces), len(weight)))
    clocks /= np.where(weight > 0, weight, 1e-300)
    drawn = np.argpartition(clocks, k - 1, axis=1)[:, :k]
    return np.take_along_axis(spaces, drawn[..., None], axis=1)


def _plus_plus(
    spaces: np.ndarray, weight: np.ndarray, k: int, rng: np.random.Generator
) -> np.ndarray:
    """Seeds [s, k, e], each drawn by its weighted squared distance to those before it."""
    count, each = len(spaces), np.arange(len(spaces))
    seeds = np.empty((count, k, spaces.shape[2]))
    mass = np.broadcast_to(weight, (count, len(weight)))
    nearest = np.full((count, len(weight)), np.inf)
    for j in range(k):
        below = np.cumsum(mass, axis=1)
        drawn = (below <= rng.random((count, 1)) * below[:, -1:]).sum(axis=1)
        seeds[:, j] = spaces[each, np.minimum(drawn, len(weight) - 1)]
        nearest = np.minimum(nearest, ((spaces - seeds[:, j, None]) ** 2).sum(axis=2))
        mass = nearest * weight
        # fewer distinct rows than seeds: any present row will do
        mass = np.where(mass.sum(axis=1, keepdims=True) > 0, mass, weight)
    return seeds


def _nearest(spaces: np.ndarray, centres: np.ndarray) -> np.ndarray:
    score = np.matmul(spaces, np.swapaxes(centres, 1, 2))
    score -= 0.5 * (centres**2).sum(axis=2)[:, None]
    return score.argmax(axis=2)


def _lloyd(spaces: np.ndarray, weight: np.ndarray, centres: np.ndarray) -> np.ndarray:
    for _ in range(ROUNDS):
        chosen = _nearest(spaces, centres)[..., None] == np.arange(centres.shape[1])
        plan = np.swapaxes(chosen * weight[:, None], 1, 2)
        mass = plan.sum(axis=2, keepdims=True)
        moved = np.matmul(plan, spaces) / np.where(mass > 0, mass, 1)
        centres = np.where(mass > 0, moved, centres)
    return centres
