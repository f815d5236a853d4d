"""Stepwise EM for many rows: a few passes that move after every tile, then another solver."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PRNGKeyArray

from ..core.tree import pytree, static
from ..model import Mixture, Objective
from .em import EM
from .loop import Progress, Solver
from .squarem import Squarem
from .staged import Prepared
from .tiles import Running, Tiles, learn

TILES, SMALLEST = 128, 512
"""How many tiles a pass has, and how many rows a tile at least."""
ROWS = 5
"""Rows for each parameter behind an estimate at least."""


@pytree
class OnlineStart(Prepared):
    """A few passes of stepwise (online) EM, then the inner solver.

    Rows are dealt out to tiles, which come in random order. The statistics are the first tile's,
    then go a step of (t + 2)^-exponent towards each tile's own, t counting those before, and the
    M-step follows: a pass moves as often as it has tiles, where EM's moves once. What it reaches is
    the start of the inner solver, which evaluates it at once. Of a single tile, the first pass is a
    step of EM.

    Attributes:
        inner: the solver that follows, usually `Squarem()`.
        passes: over all rows.
        exponent: in (1 / 2, 1], for which the steps converge.
        tiles: in each pass; None is 128, of at least 512 rows.
        memory: rows that the estimate holds at least: the mixture stays until so many are in, and
            steps are no longer than that; at most half of all. None is five for each parameter.
        key: of the order: a typed key, or an integer seed.

    Source: Cappé and Moulines (2009), J. R. Statist. Soc. B 71; for tiles and the exponent, Liang
    and Klein (2009), NAACL HLT, Online EM for unsupervised models.
    """

    inner: Solver = Squarem()
    passes: int = static(default=2)
    exponent: Array | float = 0.6
    tiles: int | None = static(default=None)
    memory: Array | float | None = None
    key: PRNGKeyArray | int = 0

    def init(self, objective: Objective, mixture: Mixture) -> tuple[Any, tuple, Progress]:
        """The passes, then the inner solver's start.

        Raises:
            TypeError: at trace time, for a family that cannot re-centre its statistics.
            ValueError: at trace time, for what `EM` cannot learn.
        """
        EM().init(objective, mixture)  # for what it refuses
        n = objective.rows.weight.shape[0]
        count = max(min(TILES, n // SMALLEST) if self.tiles is None else min(self.tiles, n), 1)
        tiles = Tiles(objective, count)

        # Kish: equal weights count as so many rows, whatever their unit, and absent rows as none
        n_rows = 1 / jnp.sum(objective.rows.weight**2)
        least = ROWS * mixture.n_parameters if self.memory is None else self.memory
        memory = jnp.minimum(least / n_rows, 0.5)

        def visit(carry: tuple[Mixture, Running], number: Array) -> tuple[tuple, None]:
            part, share = tiles.alone(number)
            return learn(part, *carry, share, self.exponent, memory)[:2], None

        start = mixture, Running.none(objective, mixture)
        (reached, _), _ = jax.lax.scan(visit, start, self._order(count))
        return self.inner.init(objective, reached)

    def _order(self, count: int) -> Array:
        """[passes * count] every tile once in each pass."""
        typed = isinstance(self.key, Array) and jnp.issubdtype(self.key.dtype, jax.dtypes.prng_key)
        key = self.key if typed else jax.random.key(self.key)
        keys = jax.random.split(key, self.passes)
        return jax.vmap(lambda one: jax.random.permutation(one, count))(keys).ravel()
