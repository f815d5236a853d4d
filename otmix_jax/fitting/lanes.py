"""Many runs side by side, compacted: what is done is left out of the next round.

A lane is one run: a problem and a start. Lanes advance in blocks of a fixed size, so one compiled
program serves any number of live lanes, and the number of blocks of a round follows from how many
lanes still run. Between rounds the host looks at one number. The work so follows the sum of the
steps, not the number of lanes times the longest run.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int, PyTree

from ..core.status import Status
from ..core.tree import index, pytree, replace
from ..engine import Engine
from ..model import Mixture, Objective, Problem, Solution
from ..solvers.loop import Carry, Limits, Solver, finish, running, start
from .relay import leg


@pytree
class Lanes:
    """Which problem each lane minimises.

    Attributes:
        problems: leading axis p on every leaf.
        which: [l] the problem of each lane.
        n_lanes: how many lanes are meant; those from there on are padding.
        engine: how a pass over a problem's rows is made; None chooses by shape.
        x: rows that all problems share, which then have none of their own.
    """

    problems: Problem
    which: Int[Array, " l"]
    n_lanes: Int[Array, ""]
    engine: Engine | None = None
    x: PyTree = None

    def problem(self, lane: Int[Array, ""]) -> Problem:
        """The problem of one lane."""
        problem = index(self.problems, self.which[lane])
        return problem if self.x is None else replace(problem, x=self.x)

    def objective(self, lane: Int[Array, ""]) -> Objective:
        """The objective of one lane."""
        return Objective.of(self.problem(lane), self.engine)


def _blocked(
    run: Callable[[Array], Any], lanes: Int[Array, " l"], count: Array, block: int, out: Any
) -> Any:
    """`out` with the entries of the first `count` of `lanes` set to `run(lane)`, block by block."""
    total = lanes.shape[0]
    padded = jnp.concatenate([lanes, jnp.full((block,), total, lanes.dtype)])
    # places out of range: they compute the last lane again, and `drop` leaves it unwritten
    padded = jnp.where(jnp.arange(total + block) < count, padded, total)

    def body(number: Array, out: Any) -> Any:
        mine = jax.lax.dynamic_slice(padded, (number * block,), (block,))
        lane = jnp.minimum(mine, total - 1)
        # one by one without vmap: a choice between kernels then stays a choice
        part = jax.vmap(run)(lane) if block > 1 else jax.tree.map(_alone, run(lane[0]))
        return jax.tree.map(lambda o, p: o.at[mine].set(p, mode="drop"), out, part)

    return jax.lax.fori_loop(0, (count + block - 1) // block, body, out)


def _alone(leaf: Array) -> Array:
    return leaf[None]


def _all(run: Callable[[Array], Any], lanes: Lanes, block: int) -> Any:
    """`run` on every lane that is meant; zeros on the padding."""
    order = jnp.arange(lanes.which.shape[0])
    shapes = jax.eval_shape(jax.vmap(run), order)
    out = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return _blocked(run, order, lanes.n_lanes, block, out)


# `make` is static: a new function object would be compiled anew, hence `many._drawn`
@functools.partial(jax.jit, static_argnames=("make", "block"))
def begin(
    make: Callable[[Any, Problem], Mixture],
    lanes: Lanes,
    seeds: Any,
    solver: Solver,
    limits: Limits,
    block: int,
) -> Carry:
    """Every lane before its first step, from `make(seed of the lane, its problem)`."""

    def one(lane: Array) -> Carry:
        first = make(index(seeds, lane), lanes.problem(lane))
        return start(lanes.objective(lane), solver, first, limits)

    return _all(one, lanes, block)


# donated: the new state takes the place of the old one, which no caller may read again
@functools.partial(jax.jit, static_argnames="block", donate_argnames="carry")
def advance_round(
    lanes: Lanes, carry: Carry, solver: Solver, limits: Limits, stride: Array | int, block: int
) -> tuple[Carry, Array, Array]:
    """Up to `stride` steps of every lane that still runs.

    Returns:
        The new state, how many lanes still run, and how many steps of lanes were computed for it,
        idle ones of a block included.
    """
    order = jnp.arange(lanes.which.shape[0])
    live = jax.vmap(lambda c: running(limits, c))(carry) & (order < lanes.n_lanes)
    compact = jnp.argsort(~live, stable=True)
    before = carry

    def one(lane: Array) -> Carry:
        # under vmap it runs as long as the longest of its block: `_computed` counts that
        return leg(lanes.objective(lane), solver, limits, index(before, lane), stride)[0]

    count = jnp.sum(live)
    carry = _blocked(one, compact, count, block, carry)
    still = jax.vmap(lambda c: running(limits, c))(carry) & (order < lanes.n_lanes)
    taken = jnp.where(live, carry.n_steps - before.n_steps, 0)[compact]
    return carry, jnp.sum(still), _computed(taken, block)


def _computed(taken: Int[Array, " l"], block: int) -> Array:
    """The sum over blocks of size times longest run."""
    rest = -taken.shape[0] % block
    longest = jnp.max(jnp.pad(taken, (0, rest)).reshape(-1, block), axis=1)
    return block * jnp.sum(longest)


@functools.partial(jax.jit, static_argnames="block")
def end(lanes: Lanes, carry: Carry, solver: Solver, block: int) -> Solution:
    """The solutions of all lanes, with their leading axis."""

    def one(lane: Array) -> Solution:
        return finish(lanes.objective(lane), solver, index(carry, lane))

    return _all(one, lanes, block)


@jax.jit
def leave(limits: Limits, carry: Carry) -> Carry:
    """The state with lanes that still run as INTERRUPTED."""

    def one(carry: Carry) -> Carry:
        left = jnp.where(running(limits, carry), int(Status.INTERRUPTED), carry.status)
        return replace(carry, status=left.astype(jnp.int32))

    return jax.vmap(one)(carry)


def run_lanes(
    make: Callable[[Any, Problem], Mixture],
    lanes: Lanes,
    seeds: Any,
    solver: Solver,
    limits: Limits,
    *,
    stride: int,
    block: int,
    on_round: Callable[[int, int], bool],
) -> tuple[Carry, Solution, int]:
    """All lanes to their end.

    Args:
        make: a start from a lane's seed and problem.
        lanes: the problems, and which of them each lane minimises.
        seeds: leading axis l; what `make` is given.
        solver: one for all.
        limits: one for all.
        stride: steps between two looks of the host.
        block: lanes that advance together.
        on_round: called with the number of lanes that still run, and the steps computed in all;
            whether to leave them, INTERRUPTED, as they are.

    Returns:
        The last state and the solutions with leading axis l, and the steps of lanes computed.
    """
    carry = begin(make, lanes, seeds, solver, limits, block)
    live, computed = 1, 0
    while live:
        carry, still, spent = advance_round(lanes, carry, solver, limits, stride, block)
        # int() is the round's only wait for the device
        live, computed = int(still), computed + int(spent)
        if on_round(live, computed) and live:
            carry = leave(limits, carry)
            break
    return carry, end(lanes, carry, solver, block), computed
