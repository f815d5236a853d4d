"""Runs in legs: a program that stops after so many steps, and goes on where it was.

The same program runs the first leg and all others, so that nothing more is compiled; and the steps
are the same however they are divided, so that the answer is, to the last bit.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Int

from ..core.status import Status
from ..core.tree import index, pytree, replace, shape_of
from ..model import Mixture, Objective, Solution
from ..solvers import Limits, Solver
from ..solvers.loop import Carry, advance, finish, running, start


@pytree
class Relay:
    """How far runs are that run one after another.

    Attributes:
        lane: the one that runs.
        carry: its state.
        going: whether it has begun.
        solutions: [s] of those before it, and as far as it is of this one.
    """

    lane: Int[Array, ""]
    carry: Carry
    going: Bool[Array, ""]
    solutions: Solution


@pytree
class Abreast:
    """How far runs are that run side by side.

    Attributes:
        carry: [s] their states.
        going: whether they have begun.
    """

    carry: Carry
    going: Bool[Array, ""]


@pytree
class Account:
    """What the host looks at after a leg.

    Attributes:
        taken: steps of the leg; those of runs side by side count once.
        over: runs that are over.
        live: runs that are not.
        value: the lowest of a healthy one, or infinity.
    """

    taken: Array
    over: Array
    live: Array
    value: Array


def leg(
    objective: Objective, solver: Solver, limits: Limits, carry: Carry, most: Array | int
) -> tuple[Carry, Array]:
    """At most so many further steps of a run, and how many they were."""

    def due(state: tuple[Carry, Array]) -> Array:
        return running(limits, state[0]) & (state[1] < most)

    def step(state: tuple[Carry, Array]) -> tuple[Carry, Array]:
        return advance(objective, solver, limits, state[0]), state[1] + 1

    return jax.lax.while_loop(due, step, (carry, jnp.zeros((), jnp.int32)))


def in_relay(
    objective: Objective,
    solver: Solver,
    limits: Limits,
    begin: Callable[[Array], Mixture],
    meant: Callable[[Array], Any],
    n_lanes: Array | int,
    state: Relay,
    most: Array,
) -> tuple[Solution, Relay, Account]:
    """A leg of runs one after another: none waits for the longest; those that never ran lose.

    Args:
        objective: of all.
        solver: of all.
        limits: of each.
        begin: where a lane starts.
        meant: see `finish`.
        n_lanes: how many there are.
        state: zeros at first.
        most: steps of all lanes together; 0 makes an answer of the one that runs.
    """

    def body(now: tuple[Relay, Array]) -> tuple[Relay, Array]:
        state, spent = now
        carry = jax.lax.cond(
            state.going,
            lambda: state.carry,
            lambda: start(objective, solver, begin(state.lane), limits),
        )
        carry, taken = leg(objective, solver, limits, carry, most - spent)
        going = running(limits, carry)
        # an answer may cost a pass: while it runs it is told what the state knows
        found = jax.lax.cond(
            going & (most > 0),
            lambda: _known(index(state.solutions, state.lane), carry),
            lambda: finish(objective, solver, carry, meant(state.lane)),
        )
        solutions = jax.tree.map(
            lambda whole, part: whole.at[state.lane].set(part), state.solutions, found
        )
        return Relay(state.lane + ~going, carry, going, solutions), spent + taken + closing

    def due(now: tuple[Relay, Array]) -> Array:
        state, spent = now
        return (state.lane < n_lanes) & ((spent < most) | (closing & state.going & (spent == 0)))

    closing = most == 0
    state, spent = jax.lax.while_loop(due, body, (state, jnp.zeros((), jnp.int32)))
    solutions = state.solutions
    ran = jnp.arange(len(solutions.status)) < state.lane + state.going
    solutions = replace(solutions, status=jnp.where(ran, solutions.status, int(Status.NON_FINITE)))
    return solutions, state, Account(spent, state.lane, n_lanes - state.lane, _lowest(solutions))


def abreast(
    objective: Objective,
    solver: Solver,
    limits: Limits,
    begin: Callable[[Array], Mixture],
    n_lanes: int,
    state: Abreast,
    most: Array,
) -> tuple[Solution, Abreast, Account]:
    """A leg of runs side by side, and what they are worth; see `in_relay`."""

    def first(lane: Array) -> Carry:
        return start(objective, solver, begin(lane), limits)

    lanes = jnp.arange(n_lanes)
    carry = jax.lax.cond(state.going, lambda: state.carry, lambda: jax.vmap(first)(lanes))
    carry, taken = jax.vmap(lambda one: leg(objective, solver, limits, one, most))(carry)
    live = jnp.sum(jax.vmap(functools.partial(running, limits))(carry))
    answers = jax.vmap(functools.partial(finish, objective, solver))
    shapes = jax.eval_shape(answers, carry)
    solutions = jax.lax.cond(
        (live > 0) & (most > 0),
        lambda: _known(jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes), carry),
        lambda: answers(carry),
    )
    account = Account(jnp.max(taken), n_lanes - live, live, _lowest(solutions))
    return solutions, Abreast(carry, jnp.asarray(True)), account


def _known(before: Solution, carry: Carry) -> Solution:
    """What a state tells of its answer at no cost; the rest is as before."""

    def chosen(path: Any, leaf: Array) -> Array:
        known = {
            "value": carry.progress.value,
            "objective": carry.progress.objective,
            "status": carry.status,
        }
        return known.get(path[0].name, leaf)

    # by name: of runs side by side it has a leading axis
    return jax.tree_util.tree_map_with_path(chosen, before)


def relay_before(
    objective: Objective, solver: Solver, limits: Limits, mixture: Mixture, n_lanes: int
) -> Relay:
    """Of the type of the state of a relay, for `blank`."""
    carry = start(objective, solver, mixture, limits)
    one = finish(objective, solver, carry)
    solutions = jax.tree.map(lambda leaf: jnp.stack([leaf] * n_lanes), one)
    return Relay(jnp.zeros((), jnp.int32), carry, jnp.asarray(False), solutions)


def abreast_before(
    objective: Objective, solver: Solver, limits: Limits, mixture: Mixture, n_lanes: int
) -> Abreast:
    """The same of runs side by side."""
    carry = start(objective, solver, mixture, limits)
    return Abreast(
        jax.tree.map(lambda leaf: jnp.stack([leaf] * n_lanes), carry), jnp.asarray(False)
    )


def _lowest(solutions: Solution) -> Array:
    healthy = solutions.status <= int(Status.STALLED)
    return jnp.min(jnp.where(healthy, solutions.value, jnp.inf))


def blank(make: Callable[..., Any], *args: Any) -> Any:
    """Zeros in the shapes of `make(*args)`, whose values do not matter: a state before any leg.

    Args:
        make: a function that is the same object at each call.
        *args: its arguments.
    """
    leaves, structure = jax.tree.flatten(args)
    kinds = tuple((getattr(leaf, "shape", ()), _dtype(leaf)) for leaf in leaves)
    # what else decides types and places
    beside = jax.dtypes.canonicalize_dtype(float), jax.config.jax_default_device  # type: ignore[attr-defined]
    shapes, zeros = _blank(make, structure, kinds, beside)
    return _filled(shapes) if zeros is None else zeros


FEW = 2**18
"""Numbers of a state up to which its zeros are kept for the next time."""


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


@functools.lru_cache(maxsize=64)
def _blank(make: Callable[..., Any], structure: Any, kinds: tuple, beside: Any) -> tuple[Any, Any]:
    """The shapes, and the zeros where they are few."""
    del beside
    given = [
        jax.ShapeDtypeStruct(shape, dtype)
        if jnp.issubdtype(dtype, jax.dtypes.extended)
        else shape_of(shape, dtype)
        for shape, dtype in kinds
    ]
    shapes = jax.eval_shape(make, *jax.tree.unflatten(structure, given))
    few = sum(leaf.size for leaf in jax.tree.leaves(shapes)) < FEW
    return shapes, _filled(shapes) if few else None


def _filled(shapes: Any) -> Any:
    # made on the host: on a device each shape would be a program
    return jax.device_put(jax.tree.map(lambda one: np.zeros(one.shape, one.dtype), shapes))
