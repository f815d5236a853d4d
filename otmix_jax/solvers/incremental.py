"""Incremental EM: the plan is renewed tile by tile, and the parameters follow at once."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from ..core.tree import pytree, replace, select, static
from ..model import Evaluation, Mixture, Objective
from .em import EM, EMState
from .loop import Progress, Solver
from .tiles import Tiles


@pytree
class Kept:
    """The statistics of each tile, about the parameters of a mixture.

    Attributes:
        mass: [t, k] their sizes.
        statistics: [t, ...] the family's.
        begun: whether every tile has been met.
    """

    mass: Array
    statistics: Any
    begun: Array


@pytree
class Round:
    """What a pass over the tiles says of the mixture that it began with, and where it led.

    Attributes:
        value: the transport value of the mixture, in nats.
        following: the mixture at its end.
        kept: the statistics of the tiles, about that one.
    """

    value: Array
    following: Mixture
    kept: Kept


def go_round(objective: Objective, mixture: Mixture, kept: Kept) -> Round:
    """A pass: each tile's plan is renewed, and blocks 2 and 3 follow at once.

    Those of the first pass follow at its end alone: it is a step of EM.
    """
    count = kept.mass.shape[0]
    tiles, origin = Tiles(objective, count), mixture.components
    sums = kept.mass, kept.statistics
    # of the tiles to come, by sums, not by taking off what was: nothing cancels
    rest = jax.tree.map(_after, sums)

    def visit(carry: tuple[Mixture, tuple], at: tuple) -> tuple[tuple, tuple]:
        (current, done), (number, (mass, statistics)) = carry, at
        part, now = tiles.part(number), current.components
        found = part.evaluate(current)
        done = jax.tree.map(jnp.add, done, (found.mass, found.statistics))
        to_come = mass, origin.recentred(statistics, mass, now)
        whole = jax.tree.map(jnp.add, done, to_come)
        told = replace(found, mass=whole[0], statistics=whole[1])
        moves = kept.begun | (number == count - 1)
        following = select(moves, EM().proposal(objective, current, told), current)
        done = done[0], now.recentred(done[1], done[0], following.components)
        own = found.mass, now.recentred(found.statistics, found.mass, origin)
        return (following, done), (part.value(mixture), own)

    begin = mixture, jax.tree.map(lambda a: jnp.zeros(a.shape[1:], a.dtype), sums)
    order = jnp.arange(count)
    (following, _), (values, (mass, own)) = jax.lax.scan(visit, begin, (order, rest))

    def carried(mass: Array, statistics: Any) -> Any:
        return origin.recentred(statistics, mass, following.components)

    own = jax.vmap(carried)(mass, own)
    return Round(jnp.sum(values), following, Kept(mass, own, jnp.ones_like(kept.begun)))


def _after(a: Array) -> Array:
    """Of each entry, the sum of those after it."""
    return jnp.concatenate([jnp.cumsum(a[:0:-1], axis=0)[::-1], jnp.zeros_like(a[:1])])


@pytree
class Incremental(Solver):
    """EM that keeps the statistics of every tile, and moves after each that is renewed.

    Each move lowers the free energy, sum_ij P_ij C_ij + KL(P | a pi^T), of the plan that is kept,
    and there is no step size; the value of the mixtures themselves falls in all but rare steps. One
    step is one pass. Where EM shrinks the error by J in a pass, this does by e^-kappa, with
    J (e^kappa - 1) / kappa = 1, in the limit of many tiles. Memory: tiles times the statistics.
    A pass also takes the value of where it began, half as much arithmetic again as EM's.

    Attributes:
        tiles: how many, at most one per row.

    Source: Neal and Hinton (1998), Learning in Graphical Models, 355-368.
    """

    tiles: int = static(default=32)
    question: ClassVar[Callable[..., Any]] = staticmethod(go_round)

    def init(self, objective: Objective, mixture: Mixture) -> tuple[EMState, tuple, Progress]:
        """EM's, and no statistics yet.

        Raises:
            TypeError: at trace time, for a family whose M-step is not exact or whose statistics
                cannot be re-centred, and for a coupling of all rows.
            ValueError: at trace time, for what `EM` cannot learn.
        """
        family = mixture.components
        if not family.exact_m_step:
            raise TypeError(
                f"Incremental needs an exact M-step, which {type(family).__name__} has not: use "
                "EM(), Squarem() or OnlineStart()"
            )
        if not objective.coupling.free:
            raise TypeError(
                "Incremental renews the plan tile by tile, and a coupling of the sizes binds all "
                "rows: use SemiRelaxed(), or EM()"
            )
        state, (_, zeros), progress = EM().init(objective, mixture)
        count = max(min(self.tiles, objective.rows.weight.shape[0]), 1)
        found = jax.eval_shape(objective.evaluate, mixture)
        mass, statistics = jax.tree.map(
            lambda s: jnp.zeros((count, *s.shape), s.dtype), (found.mass, found.statistics)
        )
        kept = Kept(mass, statistics, jnp.asarray(False))
        return state, (mixture, kept), replace(progress, mass=None)

    def update(
        self, objective: Objective, state: EMState, candidate: tuple, evaluation: Round
    ) -> tuple[EMState, tuple, Progress]:
        """The mixture that the pass began with is current, the one that it led to is next."""
        mixture, _ = candidate
        found = Evaluation(evaluation.value, state.g, (), state.g)
        new = EM().accept(objective, state, mixture, found)
        # a rise is rare, and no reason to stop
        new = replace(new, progress=replace(new.progress, decrease=abs(new.progress.decrease)))
        # the plan is not the mixture's own: its sizes say nothing of it
        told = replace(new.progress, mass=None)
        return new, (evaluation.following, evaluation.kept), told

    def mixture(self, state: EMState) -> Mixture:
        """The current mixture."""
        return state.current
