"""Whole jobs: many small fits, scores, gradients, restarts, and the two solvers."""

import functools
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import otmix_jax as om

from .harness import groups, seconds
from .iterations import start_of
from .peers import sklearn_fit, sklearn_model


def small_fits(quick: bool) -> list[dict]:
    """Two thousand fits of (200, 2, 3), 50 steps each, against a loop of scikit-learn."""
    count, n, d, k, steps = (200 if quick else 2000), 200, 2, 3, 50
    x = np.stack([groups(n, d, k, seed=i) for i in range(count)])
    keys = jax.random.split(jax.random.key(0), count)

    @jax.jit
    @jax.vmap
    def starts(key: jax.Array, x: jax.Array) -> om.Mixture:
        return om.initializers.kmeans_plus_plus(key, om.Problem(x), n_components=k)

    def fit(pair: tuple[jax.Array, om.Mixture]) -> jax.Array:
        problem, start = om.Problem(pair[0]), pair[1]
        return om.solve(problem, start, tolerance=0.0, max_steps=steps, history_size=1).value

    begin = starts(keys, x)
    rows = jax.device_put(x)
    some = 40
    lanes = [jax.tree.map(lambda leaf, i=i: leaf[i], begin) for i in range(some)]
    runs = [sklearn_fit(x[i], lanes[i], "full", steps) for i in range(some)]
    theirs = 1e3 * seconds(lambda: [run() for run in runs], 1)[1] / some
    result = []
    for name, run in {
        "one vmap": jax.jit(jax.vmap(fit)),
        "lax.map, batch_size=250": jax.jit(functools.partial(jax.lax.map, fit, batch_size=250)),
    }.items():
        first, ours = seconds(lambda run=run: run((rows, begin)))
        result.append(
            {
                "problem": f"{count} fits of ({n}, {d}, {k}), {steps} steps, {name}",
                "otmix ms per fit": 1e3 * ours / count,
                "scikit-learn ms per fit": theirs,
                "x scikit-learn": theirs / (1e3 * ours / count),
                "compile s": first - ours,
            }
        )
    return result


def scores(quick: bool) -> list[dict]:
    """log_prob, responsibilities, and the gradient of the loss, of a full mixture."""
    n, d, k = (20_000 if quick else 1_000_000), 8, 32
    x = groups(n, d, k)
    start = start_of(x, k, "full")
    model = sklearn_model(start, "full", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[:1000])
    rows = jax.device_put(x)
    result = []
    for name, ours, theirs in (
        ("log_prob", lambda: start.log_prob(rows), lambda: model.score_samples(x)),
        ("responsibilities", lambda: start.responsibilities(rows), lambda: model.predict_proba(x)),
    ):
        mine, peer = seconds(ours)[1], seconds(theirs, 1)[1]
        result.append(
            {
                "problem": f"{name} ({n}, {d}, {k})",
                "otmix ms": 1e3 * mine,
                "scikit-learn ms": 1e3 * peer,
                "x scikit-learn": peer / mine,
            }
        )
    loss = jax.jit(om.negative_log_likelihood)
    gradient = jax.jit(jax.grad(om.negative_log_likelihood))
    in_rows = jax.jit(jax.grad(om.negative_log_likelihood, argnums=1))
    forward = seconds(lambda: loss(start, rows))[1]
    for name, run in (("parameters", gradient), ("rows", in_rows)):
        mine = seconds(lambda run=run: run(start, rows))[1]
        result.append(
            {
                "problem": f"gradient in the {name} ({n}, {d}, {k})",
                "otmix ms": 1e3 * mine,
                "forward ms": 1e3 * forward,
                "x forward": mine / forward,
            }
        )
    return result


def restarts(quick: bool) -> list[dict]:
    """k-means++ starts and fits to convergence, with all of `fit`'s checks, at one tolerance."""
    n, d, k = (5_000, 20, 10) if quick else (50_000, 20, 10)
    x, tolerance = groups(n, d, k), 1e-6
    rows = []
    for n_init in (1, 4):
        fit = functools.partial(
            om.fit,
            x,
            k,
            key=0,
            starts=om.Starts(n_init=n_init),
            limits=om.Limits(tolerance=tolerance),
        )
        first, ours = seconds(lambda fit=fit: fit().value)
        fitted = fit()
        begin = time.perf_counter()
        model = GaussianMixture(k, n_init=n_init, tol=tolerance, max_iter=2000, random_state=0)
        model.fit(x)
        theirs = time.perf_counter() - begin
        rows.append(
            {
                "problem": f"fit ({n}, {d}, {k}), {n_init} start(s)",
                "otmix s": ours,
                "scikit-learn s": theirs,
                "x scikit-learn": theirs / ours,
                "otmix steps": int(fitted.n_steps),
                "scikit-learn steps": int(model.n_iter_),
                "otmix value": float(fitted.value),
                "scikit-learn value": float(-model.score(x)),
                "compile s": first - ours,
            }
        )
    return rows


def solvers(quick: bool) -> list[dict]:
    """EM against the gradient path, to the same tolerance from the same start."""
    n, d, k = (2_000 if quick else 20_000), 2, 3
    problem = om.Problem(jnp.asarray(groups(n, d, k)))
    initial = om.initializers.kmeans_plus_plus(jax.random.key(1), problem, n_components=k)
    rows = []
    for name, solver in {
        "EM": om.solvers.EM(),
        "Squarem": om.solvers.Squarem(),
        "lbfgs": om.solvers.Gradient(optax.lbfgs()),
        "adam 0.01": om.solvers.Gradient(optax.adam(1e-2)),
    }.items():

        def run(solver: om.solvers.Solver = solver) -> om.Solution:
            return om.solve(problem, initial, solver, tolerance=1e-8)

        first, again = seconds(run)
        solution = run()
        rows.append(
            {
                "solver": f"{name} ({n}, {d}, {k})",
                "steps": int(solution.n_steps),
                "seconds": again,
                "compile s": first - again,
                "value": float(solution.value),
            }
        )
    return rows
