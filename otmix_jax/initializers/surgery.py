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
    rows worst. Of two components one is two, and the rows of the other are anyone's.
    """
    k = share.shape[1]
    if k < 2:
        return []
    mass = weight @ share
    length = np.sqrt(np.maximum(weight @ share**2, 1e-300))
    overlap = (share.T * weight) @ share / np.outer(length, length)
    pairs = [(i, j) for i in range(k) for j in range(i)]
    pairs.sort(key=lambda pair: -overlap[pair])
    worst = np.argsort(-_misfit(share, cost, weight, mass)).tolist()
    triples = [(i, j, s) for i, j in pairs for s in [w for w in worst if w not in (i, j)][:2]]
    triples = triples or [(0, 1, 0), (1, 0, 1)]
    tried = [triples[turn % len(triples)] for turn in range(count)]
    axes = {s: _axes(z, share[:, s] * weight) for s in {s for _, _, s in tried}}
    return [_exchange(share, i, j, s, _half(*axes[s], rng)) for i, j, s in tried]


def _exchange(share: np.ndarray, i: int, j: int, s: int, half: np.ndarray) -> np.ndarray:
    """One plan: j joins i, and takes a half of s; where s is i, rows of j are anyone's."""
    plan = share.copy()
    if s == i:
        anyone = 0.5 * share[:, j]
        plan[:, s], plan[:, j] = share[:, s] * ~half + anyone, share[:, s] * half + anyone
        return plan
    plan[:, i] += share[:, j]
    plan[:, s], plan[:, j] = share[:, s] * ~half, share[:, s] * half
    return plan


def _misfit(
    share: np.ndarray, cost: np.ndarray, weight: np.ndarray, mass: np.ndarray
) -> np.ndarray:
    """KL of each component's own rows from its law, up to what is the same for all."""
    own = share * weight[:, None] / np.maximum(mass, 1e-300)
    # a row that is not its own says nothing, however far it is
    paid = np.where(own > 0, own * np.where(own > 0, cost, 0), 0)
    return (paid + np.where(own > 0, own * np.log(np.maximum(own, 1e-300)), 0)).sum(axis=0)


def _axes(z: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows about a component's mean, and its axes, as long as its deviations."""
    centred = z - np.average(z, axis=0, weights=np.maximum(mass, 1e-300))
    value, axis = np.linalg.eigh((centred.T * mass) @ centred / max(mass.sum(), 1e-300))
    return centred, axis * np.sqrt(np.maximum(value, 0))


def _half(centred: np.ndarray, axes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which rows lie on one side of a plane through the mean; long axes are cut first."""
    return centred @ (axes @ rng.normal(size=axes.shape[1])) > 0


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
        half = _half(*_axes(z, share[:, s] * weight), rng)
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
