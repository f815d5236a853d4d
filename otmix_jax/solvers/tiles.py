"""Rows dealt out to tiles, each a problem of its own, for solvers that move within a pass."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ..core.numerics import accurate_sum, all_finite, safe_divide
from ..core.status import Status
from ..core.tree import pytree, replace, select, static
from ..model import Mixture, Objective
from .em import EM


@pytree
class Tiles:
    """An objective by tiles: tile t has rows t, t + T, t + 2 T, ..., of T tiles.

    Dealt like cards, so that rows which are sorted, and absent ones that fill the end of a bucket,
    fall to all tiles alike.

    Attributes:
        objective: of all rows.
        count: T.
    """

    objective: Objective
    count: int = static()

    def part(self, number: Int[Array, ""]) -> Objective:
        """The same of one tile; its weights sum to the tile's share of all."""
        rows = self.objective.rows
        n = rows.weight.shape[0]
        which = number + self.count * jnp.arange(-(-n // self.count))
        there = which < n
        which = jnp.minimum(which, n - 1)
        weight = jnp.where(there, rows.weight[which], 0)
        x = jax.tree.map(lambda leaf: leaf[which], rows.x)
        return replace(self.objective, rows=replace(rows, x=x, weight=weight))

    def alone(self, number: Int[Array, ""]) -> tuple[Objective, Float[Array, ""]]:
        """The same with weights of sum 1, and what they summed to."""
        part = self.part(number)
        share = accurate_sum(part.rows.weight)
        weight = safe_divide(part.rows.weight, share)
        return replace(part, rows=replace(part.rows, weight=weight)), share


@pytree
class Running:
    """Running statistics, about the current mixture's parameters; their mass is 1.

    Attributes:
        mass: [k] sizes.
        statistics: the family's.
        weight: mean weight of a call, faded as they are; 0 before the first.
        g: [k] column potentials, where the next solve starts.
        total: the weight of all rows so far.
        count: calls so far, those that were left out not counted.
    """

    mass: Array
    statistics: Any
    weight: Array
    g: Array
    total: Array
    count: Array

    @classmethod
    def none(cls, objective: Objective, mixture: Mixture) -> "Running":
        """Before any row."""
        like = jax.eval_shape(objective.evaluate, mixture)
        zeros: Any = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), like)
        none = zeros.value
        return cls(zeros.mass, zeros.statistics, none, zeros.g, none, jnp.zeros((), jnp.int32))

    def step(self, exponent: Array | float, memory: Array | float, weight: Array) -> Array:
        """The next step, (count + 2)^-exponent, but no longer than leaves rows of weight `memory`
        behind the estimate; until so many are in they count alike. The first is 1.
        """
        count = self.count.astype(weight.dtype)
        printed = (count + 2) ** -jnp.asarray(exponent, weight.dtype)
        rest = jnp.maximum(jnp.asarray(memory, weight.dtype) - weight, 0)
        longest = jnp.maximum(1 / (count + 1), safe_divide(self.weight, self.weight + rest))
        return jnp.where(self.weight > 0, jnp.minimum(printed, longest), 1)


def learn(
    objective: Objective,
    mixture: Mixture,
    running: Running,
    weight: Array,
    exponent: Array | float,
    memory: Array | float,
) -> tuple[Mixture, Running, Array, Array]:
    """One step of stepwise EM: s <- (1 - step) s + step s(rows), then the M-step.

    Rows count by their weight: s is a mean in which those of earlier calls fade, all divided by
    what their weights, faded alike, sum to. Of equal weights it is the recursion as printed.

    Args:
        objective: of the rows at hand, weights summing to 1.
        mixture: the current one.
        running: about it.
        weight: of these rows together.
        exponent: of the steps; see `Running.step`.
        memory: the weight of rows that an estimate is of at least; the mixture waits for them.

    Returns:
        The next mixture, the running statistics about it, the value of the rows under the mixture
        before, and a status: CONVERGED; NON_FINITE of rows that were left out; COLLAPSED where the
        M-step led to no regular mixture, and the old one stays.

    Raises:
        TypeError: at trace time, for a family that cannot re-centre its statistics.

    Source: Cappé and Moulines (2009), J. R. Statist. Soc. B 71, eq. (10) and (11).
    """
    found = objective.evaluate(mixture, running.g)
    sound = all_finite(found)
    step = running.step(exponent, memory, weight)
    before, new = (1 - step) * running.weight, step * weight
    share = safe_divide(new, before + new)
    old = running.mass, running.statistics
    blend = jax.tree.map(
        lambda a, b: (1 - share) * a + share * b, old, (found.mass, found.statistics)
    )
    mass, statistics = select(sound, blend, old)
    proposal = EM().proposal(objective, mixture, replace(found, mass=mass, statistics=statistics))
    regular = all_finite(proposal.components)
    total = running.total + jnp.where(sound, weight, 0)
    enough = (total >= memory) & (total > 0)
    following = select(regular & sound & enough, proposal, mixture)
    statistics = mixture.components.recentred(statistics, mass, following.components)
    taken = sound & (weight > 0)
    mean = jnp.where(taken, before + new, running.weight)
    status = jnp.where(regular, int(Status.CONVERGED), int(Status.COLLAPSED))
    status = jnp.where(sound, status, int(Status.NON_FINITE)).astype(jnp.int32)
    g = jnp.where(sound, found.g, running.g)
    after = Running(mass, statistics, mean, g, total, running.count + taken)
    return following, after, found.value, status
