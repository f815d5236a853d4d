"""The bootstrap, as one batch of fits."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray

from ..adjoints import Adjoint, Implicit, Stop
from ..core.buckets import bucket, returned
from ..core.compiling import Quick, in_turn, is_staged, is_traced
from ..core.tree import cast, pytree, static
from ..fitting.edge import check_solver
from ..model import Mixture, Objective, Problem, Solution
from ..solvers import Limits, Solver, Squarem

GAP = 1e-6
"""Nats: the answer is then sqrt(2 GAP), about a thousandth, of a standard error off."""
LANES = 64
"""Replications of a program on a CPU, one after another: none waits for the longest."""
WORK = 2**26
"""Rows x columns x components x replications from which on a faster program is worth its time."""


def parametric_bootstrap(
    key: PRNGKeyArray,
    mixture: Mixture,
    n: int,
    n_replications: int,
    *,
    solver: Solver = Squarem(),
    tolerance: Array | float | None = None,
    max_steps: Array | int = 2000,
) -> Solution:
    """Fits to samples of the mixture itself: the sampling law of its estimate, by simulation.

    Every replication starts from the mixture, so components keep their places.

    Args:
        key: a typed PRNG key.
        mixture: the answer in question.
        n: rows per sample; static.
        n_replications: number of samples, fitted at once within a program or on an accelerator:
            memory grows with it there; static.
        solver: how each is fitted.
        tolerance: see `solve`. None: until all further steps together are estimated to win no more
            than 1e-6 nats of the total log-likelihood, a thousandth of a standard error.
        max_steps: see `solve`.

    Returns:
        A batch of `Solution`: its leaves have a first axis [n_replications]. Look at its `status`.

    Example:
        >>> import jax, otmix_jax as om
        >>> mixture = om.fit(om.datasets.old_faithful().x, 2, key=0).mixture
        >>> batch = om.inference.parametric_bootstrap(jax.random.key(0), mixture, 272, 20)
        >>> batch.mixture.components.mean.shape
        (20, 2, 2)
    """
    check_solver(solver)
    # one entry of history: those of all replications would be most of the memory
    limits = Limits(tolerance, max_steps, 1, GAP)
    task = _Task(key, mixture, n, solver, limits, bucket(n))
    if is_traced(task) or is_staged():
        return _at_once(task, n_replications)
    columns = sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(_row(task)))
    quick = n * columns * mixture.n_components * n_replications < WORK
    cpu = jax.default_backend() == "cpu"
    size = LANES if cpu else bucket(n_replications)
    starts = range(0, max(n_replications, 1), size)
    run: Callable[..., Solution] = functools.partial(_block, quick, task, cpu, size)
    parts = [run(first, min(size, n_replications - first)) for first in starts]
    return jax.tree.map(functools.partial(_joined, n_replications), *parts)


@pytree
class _Task:
    """What all replications share; the number of rows that are sampled is `size`."""

    key: Array
    mixture: Mixture
    n: Array | int
    solver: Solver
    limits: Limits
    size: int = static()


def _row(task: _Task) -> Any:
    return jax.eval_shape(lambda mixture, key: mixture.sample(key, 1), task.mixture, task.key)


def _one(task: _Task, adjoint: Adjoint, number: Array) -> Solution:
    """One replication: `size` rows are drawn, those from n on are absent."""
    rows = task.mixture.sample(jax.random.fold_in(task.key, number), task.size)
    present = (jnp.arange(task.size) < task.n).astype(float)
    problem = Problem(rows, present).checked(task.mixture)
    initial = cast(task.mixture, problem.dtype)
    return adjoint.run(Objective.of(problem), task.solver, initial, task.limits)


@functools.partial(jax.jit, static_argnums=1)
def _at_once(task: _Task, count: int) -> Solution:
    return jax.vmap(functools.partial(_one, task, Implicit()))(jnp.arange(count))


def _many(task: _Task, alone: bool, size: int, first: Array, count: Array) -> Solution:
    """Replications from `first` on, the first `count` of them meant."""
    one = functools.partial(_one, task, Stop())
    if not alone:
        return jax.vmap(one)(first + jnp.arange(size))
    return in_turn(lambda lane: one(first + lane), count, size)


_block = Quick(_many, static_argnums=(1, 2))


def _joined(total: int, *parts: Array) -> Array:
    whole = np.concatenate([np.asarray(part) for part in parts])[:total]
    return returned(whole, parts[0])
