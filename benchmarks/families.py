"""Seconds per EM iteration of the counting families, beside the diagonal Gaussian's and StepMix."""

from typing import Any

import jax
import numpy as np

import otmix_jax as om

from .harness import groups, seconds


def _iteration(x: np.ndarray, k: int, family: Any, steps: int) -> float:
    described = om.families.describe(family).of_rows(x)
    start = om.initializers.kmeans_plus_plus(
        jax.random.key(0), om.Problem(x[:20_000]), n_components=k, family=described
    )
    problem = om.Problem(jax.device_put(x))
    return (
        seconds(lambda: om.solve(problem, start, tolerance=0.0, max_steps=steps).value)[1] / steps
    )


def counts(quick: bool) -> list[dict]:
    """Each family on rows of its own kind, made of the Gaussian's: (n, 16, 16)."""
    n, d, k, steps = 20_000 if quick else 1_000_000, 16, 16, 10
    x = groups(n, d, k)
    gaussian = _iteration(x, k, om.families.Gaussian.of("diagonal"), steps)
    uniform = np.random.default_rng(1)
    ones = (x > uniform.normal(size=x.shape)).astype(float)
    tables = {
        "poisson": uniform.poisson(np.exp(1 + 0.5 * x)).astype(float),
        "bernoulli": ones,
        "categorical": ones,
    }
    rows = [{"family": "diagonal Gaussian", "ms": 1e3 * gaussian, "x Gaussian": 1.0}]
    for family, table in tables.items():
        own = _iteration(table, k, family, steps)
        rows.append({"family": family, "ms": 1e3 * own, "x Gaussian": own / gaussian})
    return rows


def latent_classes(quick: bool) -> list[dict]:
    """100k rows of 20 binary items in 6 classes: one start, as many EM iterations on each side."""
    from stepmix.stepmix import StepMix

    n, d, k, steps = 10_000 if quick else 100_000, 20, 6, 20
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 0.9, (k, d))
    x = (rng.random((n, d)) < p[rng.integers(k, size=n)]).astype(float)
    peer = StepMix(
        k, measurement="binary", n_init=1, max_iter=steps, abs_tol=0, rel_tol=0,
        progress_bar=0, random_state=0,
    )  # fmt: skip
    theirs = seconds(lambda: peer.fit(x).lower_bound_, 1)[1] / steps
    rows = []
    for family in ("bernoulli", "categorical"):
        ours = _iteration(x, k, family, steps)
        rows.append(
            {
                "family": family,
                "otmix ms": 1e3 * ours,
                "StepMix ms": 1e3 * theirs,
                "x StepMix": theirs / ours,
            }
        )
    return rows
