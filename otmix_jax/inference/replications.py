"""The bootstrap, as one batch of fits: what a replication sees, and how all of them run."""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PRNGKeyArray, PyTree

from ..adjoints import Adjoint, Implicit, Stop
from ..core.buckets import bucket, returned
from ..core.compiling import Quick, in_turn, is_staged, is_traced
from ..core.tree import cast, pytree, static
from ..fitting import ConvergenceWarning, Report
from ..fitting.control import Watch, clock
from ..fitting.edge import check_solver
from ..model import Mixture, Objective, Problem, Solution
from ..solvers import Limits, Solver, Squarem

GAP = 1e-6
"""Nats: the answer is then sqrt(2 GAP), about a thousandth, of a standard error off."""
LANES = 64
"""Replications of a program on a CPU, one after another: none waits for the longest."""
STEPS = 16
"""Of a replication, roughly, before any was run."""
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
    progress: bool | Callable[[int, int], Any] = False,
    time_limit: float | None = None,
    callback: Callable[[Report], Any] | None = None,
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
        progress: see `fit_batch`; this and the next two count for nothing under `jit`.
        time_limit: see `fit`; of a stop fewer replications come back. On an accelerator all run
            at once, and nothing stops them.
        callback: see `fit`.

    Returns:
        A batch of `Solution`: its leaves have a first axis [n_replications]. Look at its `status`.

    Warns:
        ConvergenceWarning: where it was stopped.

    Example:
        >>> import jax, otmix_jax as om
        >>> mixture = om.fit(om.datasets.old_faithful().x, 2, key=0).mixture
        >>> batch = om.inference.parametric_bootstrap(jax.random.key(0), mixture, 272, 20)
        >>> batch.mixture.components.mean.shape
        (20, 2, 2)
    """
    check_solver(solver)
    task = Task(key, mixture, n, solver, limits(tolerance, max_steps), bucket(n), Drawn())
    with Watch(progress, time_limit, callback) as watch:
        fits = run(task, n_replications, watch)
    report(watch, len(fits.status), n_replications)
    return fits


def report(watch: Watch, count: int, n_replications: int) -> None:
    """Warns of a stop, at the caller of the public function."""
    if watch.cut:
        message = (
            f"INTERRUPTED by {watch.reason} after {count} of {n_replications} replications: "
            "fewer make standard errors and quantiles noisier."
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=3)


def limits(tolerance: Array | float | None, max_steps: Array | int) -> Limits:
    """Those of a replication."""
    # one entry of history: those of all replications would be most of the memory
    return Limits(tolerance, max_steps, 1, GAP)


def check_drawable(mixture: Mixture) -> None:
    """Refuses a mixture whose rows have no law by themselves.

    Raises:
        TypeError: naming the family.
    """
    if mixture.components.conditional:
        raise TypeError(
            f"{type(mixture.components).__name__} rows have a law given what stands beside them "
            "alone, and cannot be drawn without it: use bootstrap(..., kind='resample'), or select"
        )


@pytree
class Drawn:
    """Rows are drawn from the mixture."""

    def __call__(self, task: "Task", key: Array, number: Array) -> tuple[PyTree, Array]:
        """The rows and weights of one replication: those from n on are absent."""
        del number
        check_drawable(task.mixture)
        return task.mixture.sample(key, task.size), (jnp.arange(task.size) < task.n).astype(float)


@pytree
class Reweighted:
    """The rows stay, and count differently.

    Attributes:
        x: [size] rows, of which some may be absent.
        count: [size] how often each was seen; 0 of an absent one.
        kind: "resample", "weighted" or "jackknife".
    """

    x: PyTree
    count: Float[Array, " size"]
    kind: str = static()

    def __call__(self, task: "Task", key: Array, number: Array) -> tuple[PyTree, Array]:
        """The rows and weights of one replication."""
        return self.x, _WEIGHTS[self.kind](task, key, self.count, number)


def _resampled(task: "Task", key: Array, count: Array, number: Array) -> Array:
    """Counts of n draws with replacement: multinomial."""
    del number
    reached = jnp.cumsum(count)
    at = reached[-1] * jax.random.uniform(key, (task.size,), count.dtype)
    # right: a row of weight 0 ends where the one before it does, and is never drawn
    which = jnp.minimum(jnp.searchsorted(reached, at, side="right"), len(count) - 1)
    drawn = (jnp.arange(task.size) < task.n).astype(count.dtype)
    return jnp.zeros_like(count).at[which].add(drawn)


def _dirichlet(task: "Task", key: Array, count: Array, number: Array) -> Array:
    """Exponential weights; of a row that was seen c times, the sum of c of them."""
    del task, number
    there = count > 0
    return jnp.where(there, jax.random.gamma(key, jnp.where(there, count, 1)), 0)


def _without(task: "Task", key: Array, count: Array, number: Array) -> Array:
    """One row seen once less."""
    del task, key
    return jnp.maximum(count - (jnp.arange(len(count)) == number), 0)


_WEIGHTS = {"resample": _resampled, "weighted": _dirichlet, "jackknife": _without}


def run(task: "Task", n_replications: int, watch: Watch) -> Solution:
    """All replications, in the programs that their number and size are worth, or the first ones."""
    if is_traced(task) or is_staged():
        return _at_once(task, n_replications)
    columns = sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(_row(task)))
    work = task.size * columns * task.mixture.n_components
    cpu, quick = jax.default_backend() == "cpu", work * n_replications < WORK
    size = LANES if cpu else bucket(n_replications)
    block: Callable[..., Solution] = functools.partial(_block, quick, task, cpu, size)
    watch.stage("bootstrap", n_replications, unit="replications")
    parts, counts, done = [], [], 0
    while True:
        # accelerators run a whole block whatever is meant of it
        most = int(min(size, watch.steps(STEPS * work))) if cpu else size
        counts.append(min(most, n_replications - done))
        begun = clock()
        parts.append(block(done, counts[-1]))
        # the wait for it
        steps = int(np.sum(np.asarray(parts[-1].n_steps)[: counts[-1]]))
        watch.paced(STEPS * work * counts[-1], clock() - begun)
        watch.note(steps, counts[-1])
        done += counts[-1]
        if done >= n_replications or watch.stops():
            return jax.tree.map(functools.partial(_joined, tuple(counts)), *parts)


@pytree
class Task:
    """What all replications share.

    Attributes:
        n: rows drawn, of `size` that a program is made for.
        draw: (task, key, number) to rows and weights.
    """

    key: Array
    mixture: Mixture
    n: Array | int
    solver: Solver
    limits: Limits
    size: int = static()
    draw: Any = Drawn()
    learn_weights: bool | None = static(default=None)


def _row(task: Task) -> Any:
    return jax.eval_shape(lambda task: task.draw(task, task.key, jnp.asarray(0))[0], task)


def _one(task: Task, adjoint: Adjoint, number: Array) -> Solution:
    rows, weight = task.draw(task, jax.random.fold_in(task.key, number), number)
    problem = Problem(rows, weight, learn_weights=task.learn_weights).checked(task.mixture)
    initial = cast(task.mixture, problem.dtype)
    return adjoint.run(Objective.of(problem), task.solver, initial, task.limits)


@functools.partial(jax.jit, static_argnums=1)
def _at_once(task: Task, count: int) -> Solution:
    return jax.vmap(functools.partial(_one, task, Implicit()))(jnp.arange(count))


def _many(task: Task, alone: bool, size: int, first: Array, count: Array) -> Solution:
    """Replications from `first` on, the first `count` of them meant."""
    one = functools.partial(_one, task, Stop())
    if not alone:
        return jax.vmap(one)(first + jnp.arange(size))
    return in_turn(lambda lane: one(first + lane), count, size)


_block = Quick(_many, static_argnums=(1, 2))


def _joined(counts: tuple[int, ...], *parts: Array) -> Array:
    meant = [np.asarray(part)[:count] for part, count in zip(parts, counts, strict=True)]
    return returned(np.concatenate(meant), parts[0])
