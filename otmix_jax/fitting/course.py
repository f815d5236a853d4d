"""What a race runs on: the programs of one problem, for any number of components up to one.

Mixtures hold K_max components, of which the first `counts` are meant; the others have log-weight
-inf: they are absent, exactly. Whatever the numbers of rows (up to a bucket), components and lanes,
the programs are the same.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float, PyTree

from ..core.compiling import Quick, in_turn
from ..core.status import Status
from ..core.tree import index, replace, shape_of
from ..engine import (
    Columns,
    Dense,
    Engine,
    Entrywise,
    Guarded,
    Kernel,
    Linear,
    Reference,
    Rows,
    choose,
)
from ..families import Description
from ..families.covariance import Covariance
from ..families.covariance.projected import held, one_hot
from ..initializers.assigned import started
from ..model import Mixture, Objective, Problem, Solution
from ..solvers import Limits, Solver
from .control import Watch
from .relay import Account, Relay, blank, in_relay, relay_before

LANES, CHUNK = 64, 32
"""Starts that a program runs, or draws, one after another, at most."""
WORK = 2**22
"""Work of a step (see `Course.work`) from which on a program is worth the compiler's time."""


def rung(n_components: int) -> int:
    """The next square from 4 on: how many components a small program holds."""
    return max(2, int(np.ceil(np.sqrt(n_components)))) ** 2


def compact(components: Any, n: int, dtype: Any) -> Engine:
    """The engine whose program compiles soonest among those that are safe."""
    chosen = choose(components, n, dtype)
    if chosen.kernel is not Entrywise:
        return chosen
    form: Any = jax.eval_shape(lambda c: c.linear_form(), components)
    return replace(
        chosen, kernel=Reference if form is None else Guarded if form.guarded else Linear
    )


@dataclasses.dataclass(frozen=True)
class Course:
    """One problem, as lanes run on it.

    Attributes:
        family: what the components are.
        problem: checked; its rows in a frame, or read in one.
        n_components: K_max.
        solver: how each lane is fitted.
        limits: of the answer.
        engine: how a pass over the rows is made; None chooses.
        kind: the structure of `Projected` covariances.
        watch: who may stop its runs.
    """

    family: Description
    problem: Problem
    n_components: int
    solver: Solver
    limits: Limits
    engine: Engine | None
    kind: type[Covariance] | None = None
    watch: Watch = dataclasses.field(default_factory=Watch)

    def work(self, n_components: int) -> float:
        """About what a step costs: rows x components x numbers of a component."""
        leaves, structure = jax.tree.flatten(self.problem.x)
        kinds = tuple((leaf.shape[1:], leaf.dtype.name) for leaf in leaves)
        # of several kinds there is no single one
        whole = 1 if self.family.exchangeable else self.n_components
        entries = _entries(self.family, structure, kinds, whole) / whole
        return self.problem.n_rows * n_components * (8 + entries)

    @property
    def quick(self) -> bool:
        """Whether compiling takes longer than what is compiled."""
        return self.work(self.n_components) < WORK

    def draw(self, plans: Float[np.ndarray, "s n k"], own: np.ndarray) -> Mixture:
        """Mixtures [s] from plans, in the shapes of their own groups or in the pooled one."""
        total, parts = len(plans), []
        for number, part in enumerate(_chunks((plans, own), total, CHUNK)):
            meant = min(CHUNK, total - number * CHUNK)
            parts.append(jax.device_get(_draw(True, self.family, self.problem, *part, meant)))
        return self._held(_joined(parts, total))

    def _held(self, mixtures: Mixture) -> Mixture:
        """Drawn with free covariances, held to the structure before the first step.

        Else that step would raise the objective, and a run stops where one does.
        """
        if self.kind is None:
            return mixtures
        covariance, weights = mixtures.components.covariance, np.exp(mixtures.log_weights)
        factor = held(np.asarray(covariance.factor), weights, self.kind)
        kinds = np.broadcast_to(one_hot(self.kind), covariance.kind.shape).astype(factor.dtype)
        new = {"factor": factor, "kind": kinds}
        # by name: what is made of host arrays is no covariance yet
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: new.get(getattr(path[-1], "name", ""), leaf), mixtures
        )

    def run(self, starts: Mixture, counts: np.ndarray, limits: Limits) -> Solution:
        """Every start to its end, on the host: leading axis [s].

        Stopped, runs are as far as they came; those that never began are NON_FINITE, and hold
        their starts.
        """
        total, parts, work = len(counts), [], self.work(self.n_components)
        for number, part in enumerate(_chunks((starts, counts), total, LANES)):
            if parts and self.watch.stops():
                parts.append(_unrun(parts[0], part[0], 0))
                continue
            meant = min(LANES, total - number * LANES)
            told = self.problem, *part, meant, self.solver, limits, self.engine
            program = functools.partial(_run, self.quick, *told)
            found, account = self.watch.drive(program, blank(_before, *told), work)
            found = jax.device_get(found)
            if account.live:
                # the one that runs has an answer too
                found = _unrun(found, part[0], int(account.over) + 1)
            parts.append(found)
        return _joined(parts, total)

    def costs(self, mixture: Mixture) -> Float[np.ndarray, "n k"]:
        """-log p(x_i | theta_j) of one mixture."""
        return np.asarray(_costs(True, self.problem, mixture))

    def overlap(self, mixture: Mixture) -> float:
        """sum_i a_i log max_j P(j | x_i): 0 where no row lies between components."""
        return float(_overlap(self.quick, self.problem.rows(), mixture))

    def value(self, mixture: Mixture) -> float:
        """The mean negative log-likelihood."""
        return float(_value(self.quick, self.problem, mixture))


@functools.lru_cache(maxsize=256)
def _entries(family: Description, structure: Any, kinds: tuple, n_components: int) -> int:
    """Numbers of so many components, from the shapes of a row."""
    leaves = [shape_of((1, *shape), dtype) for shape, dtype in kinds]
    row = jax.tree.unflatten(structure, leaves)
    plan = shape_of((1, n_components), float)
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(family.initial, row, plan)))


def _chunks(tree: PyTree, total: int, size: int) -> Iterator[PyTree]:
    """Parts of `size` entries of the leading axis, the last filled up with its last entry."""
    for first in range(0, total, size):
        which = np.minimum(np.arange(first, first + size), total - 1)
        yield jax.tree.map(lambda leaf, which=which: np.asarray(leaf)[which], tree)


def _joined(parts: list[PyTree], total: int) -> PyTree:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:total], *parts)


def _drawn(
    family: Description, problem: Problem, plans: Array, own: Array, n_lanes: Array | int
) -> Mixture:
    def one(lane: Array) -> Mixture:
        return started(problem, plans[lane].astype(problem.dtype), family, own[lane])

    return in_turn(one, n_lanes, len(own))


NEVER = {
    "value": np.nan,
    "negative_log_likelihood": np.nan,
    "objective": np.nan,
    "history": np.nan,
    "status": Status.NON_FINITE.code,
    "n_steps": np.int32(0),
}
"""What a run that never began says of itself."""


def _unrun(found: Solution, starts: Mixture, begun: int) -> Solution:
    """Solutions on the host, of which those from `begun` on hold their starts."""
    lost = np.arange(len(found.status)) >= begun
    keystr = jax.tree_util.keystr
    given = {keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(starts)}

    def chosen(path: Any, leaf: Any) -> Any:
        name = path[0].name
        if name != "mixture" and name not in NEVER:
            return leaf
        instead = NEVER[name] if name in NEVER else given[keystr(path[1:])]
        return np.where(lost.reshape(-1, *(1,) * (leaf.ndim - 1)), instead, leaf)

    # by name: what is made of host arrays is no solution yet
    return jax.tree_util.tree_map_with_path(chosen, found)


def _objective(problem: Problem, starts: Mixture, engine: Engine | None) -> Objective:
    engine = engine or compact(index(starts.components, 0), problem.n_rows, problem.dtype)
    return Objective.of(problem, engine)


def _before(
    problem: Problem,
    starts: Mixture,
    counts: Array,
    n_lanes: Array | int,
    solver: Solver,
    limits: Limits,
    engine: Engine | None,
) -> Relay:
    """Of the type of a state."""
    del n_lanes
    objective = _objective(problem, starts, engine)
    return relay_before(objective, solver, limits, index(starts, 0), len(counts))


def _each(
    problem: Problem,
    starts: Mixture,
    counts: Array,
    n_lanes: Array | int,
    solver: Solver,
    limits: Limits,
    engine: Engine | None,
    state: Relay,
    most: Array,
) -> tuple[Solution, Relay, Account]:
    """A leg of them: each of at most `limits`, all together of at most so many steps."""
    objective = _objective(problem, starts, engine)

    def meant(lane: Array) -> Array:
        return jnp.arange(starts.log_weights.shape[1]) < counts[lane]

    told = functools.partial(index, starts), meant, n_lanes
    return in_relay(objective, solver, limits, *told, state, most)


def _cost_matrix(problem: Problem, mixture: Mixture) -> Array:
    def tile(cost: Any, x: PyTree, weight: Array) -> Array:
        del weight
        return cost(x)

    rows = problem.rows()
    return Dense().map(Partial(tile, mixture.components.prepared_cost()), rows)


def between(rows: Rows, mixture: Mixture) -> Array:
    """sum_i a_i log max_j P(j | x_i)."""
    n, dtype = rows.weight.shape[0], rows.weight.dtype
    engine = choose(mixture.components, n, dtype)
    kernel = engine.kernel.of(Columns(mixture.log_weights), mixture.components)
    return engine.execution.reduce(Partial(_between, kernel), rows)


def _between(kernel: Kernel, x: PyTree, weight: Array) -> Array:
    return jnp.sum(weight * jnp.log(jnp.max(kernel.rows(x)[1], axis=1)))


def _mean_cost(problem: Problem, mixture: Mixture) -> Array:
    return Objective.of(problem).likelihood().value(mixture)


_draw = Quick(_drawn, level=0, static_argnums=0)
_run = Quick(_each)
_costs = Quick(_cost_matrix, level=0)
_overlap = Quick(between, level=0)
_value = Quick(_mean_cost, level=0)
