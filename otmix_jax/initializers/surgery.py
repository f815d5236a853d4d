"""Starts out of answers: components merged, split and left out, as plans of rows.

Source: Ueda, Nakano, Ghahramani and Hinton (2000), SMEM: merge two that claim the same rows, and
split a third.
"""

import numpy as np
from jaxtyping import Float


def responsibilities(
    log_weights: Float[np.ndarray, " k"], cost: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, "n k"]:
    """P(component | row) from log pi_j and -log p(x_i | theta_j)."""
    logits = log_weights - cost
    peak = logits.max(axis=1, keepdims=True)
    share = np.exp(logits - np.where(np.isfinite(peak), peak, 0))
    return share / np.maximum(share.sum(axis=1, keepdims=True), 1e-300)


def exchanged(
    z: Float[np.ndarray, "n e"],
    share: Float[np.ndarray, "n k"],
    cost: Float[np.ndarray, "n k"],
    weight: Float[np.ndarray, " n"],
    count: int,
    rng: np.random.Generator,
) -> list[Float[np.ndarray, "n k"]]:
    """Up to `count` plans in which two components are one, and a third is two.

    The pairs that claim the same rows most come first, and with each the components that fit their
    rows worst. Of two components one takes all of its rows in halves, and the other none.
    """
    k = share.shape[1]
    if k < 2:
        return []
    mass = weight @ share
    length = np.sqrt(np.maximum(weight @ share**2, 1e-300))
    overlap = (share.T * weight) @ share / np.outer(length, length)
    pairs = [(i, j) for i in range(k) for j in range(i)]
    pairs.sort(key=lambda pair: -overlap[pair])
    worst = np.argsort(-_misfit(share, cost, weight, mass))
    triples = [(i, j, s) for i, j in pairs for s in [w for w in worst if w not in (i, j)][:2]]
    if k == 2:
        triples = [(1, 0, 0), (0, 1, 1)]
    plans = []
    for turn in range(count):
        i, j, s = triples[turn % min(len(triples), max(2, count))]
        plan = share.copy()
        if k > 2:
            plan[:, i] += plan[:, j]
            plan[:, j] = 0
        half = _half(z, share[:, s] * weight, rng)
        rest = plan[:, j].copy() if k == 2 else 0
        if k == 2:  # the rows of the one that goes are anyone's
            other = 1 - s
            plan[:, s] += 0.5 * plan[:, other]
            plan[:, other] *= 0.5
            rest = plan[:, other].copy()
            plan[:, other] = plan[:, s] * half + rest
            plan[:, s] = plan[:, s] * ~half
        else:
            plan[:, j] = plan[:, s] * half + rest
            plan[:, s] = plan[:, s] * ~half
        plans.append(plan)
    return plans


def _misfit(
    share: np.ndarray, cost: np.ndarray, weight: np.ndarray, mass: np.ndarray
) -> np.ndarray:
    """KL of each component's own rows from its law, up to what is the same for all."""
    own = share * weight[:, None] / np.maximum(mass, 1e-300)
    # a row that is not its own says nothing, however far it is
    paid = np.where(own > 0, own * np.where(own > 0, cost, 0), 0)
    return (paid + np.where(own > 0, own * np.log(np.maximum(own, 1e-300)), 0)).sum(axis=0)


def _half(z: np.ndarray, mass: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which rows lie on one side of a plane through a component's mean, long axes cut first."""
    centred = z - np.average(z, axis=0, weights=np.maximum(mass, 1e-300))
    value, axis = np.linalg.eigh((centred.T * mass) @ centred / max(mass.sum(), 1e-300))
    direction = axis @ (np.sqrt(np.maximum(value, 0)) * rng.normal(size=len(value)))
    return centred @ direction > 0


def grown(
    z: Float[np.ndarray, "n e"],
    share: Float[np.ndarray, "n k"],
    weight: Float[np.ndarray, " n"],
    rng: np.random.Generator,
) -> list[Float[np.ndarray, "n k1"]]:
    """Plans with one component more: the two largest ones in halves, and any."""
    mass = weight @ share
    largest = np.argsort(-mass)
    chosen = [*largest[:2], rng.choice(len(mass), p=mass / mass.sum())]
    plans = []
    for s in chosen:
        half = _half(z, share[:, s] * weight, rng)
        plan = np.concatenate([share, (share[:, s] * half)[:, None]], axis=1)
        plan[:, s] *= ~half
        plans.append(plan)
    return plans


def shrunk(share: Float[np.ndarray, "n k"]) -> list[Float[np.ndarray, "n k1"]]:
    """Plans with one component less, each in turn: the others take its rows."""
    plans = []
    for gone in range(share.shape[1]):
        rest = np.delete(share, gone, axis=1)
        total = rest.sum(axis=1, keepdims=True)
        # rows that were its own alone are anyone's
        rest = np.where(total > 1e-6, rest / np.maximum(total, 1e-300), 1 / rest.shape[1])
        plans.append(rest)
    return plans
