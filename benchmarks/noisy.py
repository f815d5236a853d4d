"""Milliseconds per EM step of rows with their own noise, beside astroML's XDGMM."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import otmix_jax as om
from otmix_jax.families import Diagonal, Full, Gaussian, Noisy

from .harness import groups, seconds


def _rows(n: int, d: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, noise, and means and covariances of a start."""
    rng = np.random.default_rng(0)
    x, noise = groups(n, d, k), rng.uniform(0.1, 2, (n, d))
    x = x + rng.normal(size=(n, d)) * np.sqrt(noise)
    covariances = np.broadcast_to(np.cov(x.T).reshape(d, d), (k, d, d)).copy()
    return x, noise, x[rng.choice(n, k, replace=False)], covariances


def _ours(x: np.ndarray, noise: np.ndarray, means: np.ndarray, covariance: Any) -> float:
    """Seconds per step: two lengths, whose difference has no start in it."""
    law = Noisy(Gaussian(jnp.asarray(means), covariance))
    start = om.Mixture.from_weights(jnp.ones(len(means)), law)
    rows = {"x": jnp.asarray(x), "covariance": jnp.asarray(noise)}

    def run(steps: int) -> float:
        told = {"tolerance": 0.0, "max_steps": steps}
        answer = om.solve(om.Problem(rows), start, om.solvers.EM(), **told)
        return float(answer.value)

    short, long = (seconds(lambda steps=steps: run(steps))[1] for steps in (5, 15))
    return (long - short) / 10


def steps(quick: bool) -> list[dict]:
    """One start, the same steps on each side."""
    from astroML.density_estimation import XDGMM

    sizes = [(20_000, 2, 4)] if quick else [(20_000, 2, 4), (20_000, 6, 4), (200_000, 2, 8)]
    rows = []
    for n, d, k in sizes:
        x, noise, means, covariances = _rows(n, d, k)
        full = noise[:, :, None] * np.eye(d)
        ours = _ours(x, full, means, Full.from_matrices(jnp.asarray(covariances)))
        axes = _ours(x, noise, means, Diagonal.from_matrices(jnp.asarray(covariances)))
        peer = XDGMM(k)
        peer.mu, peer.V, peer.alpha = means, covariances, np.full(k, 1 / k)
        theirs = seconds(lambda peer=peer, x=x, full=full: peer._EMstep(x, full) or 0.0, 1)[1]
        rows.append(
            {
                "n": n,
                "d": d,
                "K": k,
                "otmix ms": 1e3 * ours,
                "diagonal ms": 1e3 * axes,
                "astroML ms": 1e3 * theirs,
                "x astroML": theirs / ours,
            }
        )
    return rows
