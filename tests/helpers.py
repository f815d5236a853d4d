"""What several tests share."""

import jax
import numpy as np

import otmix_jax as om


def start(x, k=3, covariance="full", seed=0, sample_weight=None):
    """A k-means++ start."""
    problem = om.Problem(x, sample_weight)
    return om.initializers.kmeans_plus_plus(
        jax.random.key(seed), problem, n_components=k, covariance=covariance
    )


def parameters(mixture):
    """Weights, means and covariance matrices as NumPy arrays."""
    components = mixture.components
    return (
        np.asarray(mixture.weights),
        np.asarray(components.mean),
        np.asarray(components.matrices()),
    )


def assert_same_mixture(a, b, rtol=0.0, atol=0.0):
    """Same parameters, component by component."""
    for p, q in zip(parameters(a), parameters(b), strict=True):
        np.testing.assert_allclose(p, q, rtol=rtol, atol=atol)


def status(solution):
    """The status by name."""
    return om.Status(int(solution.status)).name


@jax.jit
def step(objective, solver, state, candidate):
    """One evaluation and the solver's answer: the next state, candidate, and progress."""
    evaluation = solver.question(objective, *candidate)
    return solver.update(objective, state, candidate, evaluation)


def begin(objective, solver, mixture):
    """A run whose start is evaluated."""
    return step(objective, solver, *solver.init(objective, mixture)[:2])
