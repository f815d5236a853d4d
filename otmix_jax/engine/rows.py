"""The rows as a pass reads them: in standard coordinates, absent ones made readable."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._pytree import pytree


@pytree
class Rows:
    """Raw rows with what a tile of them goes through, so that no second copy of all is made.

    Attributes:
        x: [n, d] the rows as they were given.
        weight: [n] a, of sum 1, or all zero.
        origin: [d] taken off each row first; None is 0.
        unit: what rows are divided by then; None is 1.
        stand_in: [d] what an absent row that is not finite is read as; None if none is absent.
    """

    x: Array
    weight: Array
    origin: Array | None = None
    unit: Array | None = None
    stand_in: Array | None = None

    @classmethod
    def of(
        cls,
        x: Float[Array, "n d"],
        weight: Float[Array, " n"],
        origin: Array | None = None,
        unit: Array | None = None,
        *,
        complete: bool = False,
    ) -> "Rows":
        """Rows, any of which may be absent unless they are `complete`."""
        rows = cls(x, weight, origin, unit)
        if complete or x.shape[0] == 0:
            return rows
        heaviest = jax.lax.stop_gradient(rows.standard(x[jnp.argmax(weight)]))
        return cls(x, weight, origin, unit, jnp.where(jnp.isfinite(heaviest), heaviest, 0))

    def standard(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """Some rows in standard coordinates."""
        x = x if self.origin is None else x - self.origin
        return x if self.unit is None else x / self.unit

    def read(self, x: Float[Array, "t d"], weight: Float[Array, " t"]) -> Float[Array, "t d"]:
        """Some rows in standard coordinates, each finite if its weight is 0.

        A finite absent row stays, so that the derivative in its weight is the right one.
        """
        x = self.standard(x)
        if self.stand_in is None:
            return x
        readable = (weight != 0) | jnp.all(jnp.isfinite(x), axis=1)
        return jnp.where(readable[:, None], x, self.stand_in)
