"""The latent location of a row, given the row: empirical Bayes."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray

from ..core.numerics import matmul
from ..core.tree import pytree
from ..core.typing import AnyArray


@pytree
class Posterior:
    """Laws of the latent locations of n rows, on the atoms.

    Attributes:
        atoms: [m, d] locations.
        probabilities: [n, m] of the atoms, given each row.
    """

    atoms: Array
    probabilities: Array

    @property
    def mean(self) -> Float[Array, "n d"]:
        """The best guess in squared error: for Gaussian noise of covariance S it is Tweedie's

        x + S grad log f(x), f the density of rows (Robbins 1956; Efron 2011).
        """
        return matmul(self.probabilities, self.atoms)

    @property
    def covariance(self) -> Float[Array, "n d d"]:
        """Covariances, by differences from the means."""
        apart = self.atoms - self.mean[:, None]
        return jnp.einsum("nm,nma,nmb->nab", self.probabilities, apart, apart, precision="highest")

    @property
    def variance(self) -> Float[Array, "n d"]:
        """Variances of the coordinates."""
        apart = self.atoms - self.mean[:, None]
        return jnp.einsum("nm,nma->na", self.probabilities, apart**2, precision="highest")

    def quantile(self, q: float | AnyArray) -> Float[Array, "*shape n d"]:
        """The least atom coordinate up to which there is probability q, coordinate by coordinate.

        Args:
            q: in [0, 1]: a number, or an array of any shape, whose axes come first.

        Raises:
            ValueError: for numbers outside [0, 1].
        """
        levels = np.asarray(q, float)
        if not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError(f"q must be in [0, 1], not {q!r}")
        order = jnp.argsort(self.atoms, axis=0)
        places = jnp.take_along_axis(self.atoms, order, axis=0)
        reached = jnp.cumsum(self.probabilities[:, order], axis=1)
        # what rounding leaves of the sum of all must not keep the last atom out of reach
        slack = 8 * jnp.finfo(reached.dtype).eps

        def one(level: Array) -> Array:
            below = jnp.sum(reached < level - slack, axis=1)
            # from the first atom that the row may have
            first = jnp.sum(reached <= 0, axis=1)
            index = jnp.clip(jnp.maximum(below, first), 0, len(places) - 1)
            return jnp.take_along_axis(places, index, axis=0)

        flat = jax.vmap(one)(jnp.asarray(levels.reshape(-1), reached.dtype))
        return flat.reshape(*levels.shape, *flat.shape[1:])

    def sample(self, key: PRNGKeyArray | int) -> Float[Array, "n d"]:
        """One draw for each row; a typed key or an integer seed."""
        key = jax.random.key(key) if isinstance(key, int) else key
        labels: Int[Array, " n"] = jax.random.categorical(key, jnp.log(self.probabilities), axis=1)
        return self.atoms[labels]

    @property
    def sign_rate(self) -> Float[Array, "n d"]:
        """The local false sign rate: how probably the more probable sign is wrong.

        min(P(y <= 0), P(y >= 0)), coordinate by coordinate; small where the sign is known.

        Source: Stephens, Biostatistics 18 (2017), eq. (14).
        """
        not_above = matmul(self.probabilities, (self.atoms <= 0).astype(self.atoms.dtype))
        not_below = matmul(self.probabilities, (self.atoms >= 0).astype(self.atoms.dtype))
        return jnp.minimum(not_above, not_below)
