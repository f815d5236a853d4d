"""What is minimised: rows, their weights, entropy, coupling, prior."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from ._numerics import normalize
from ._pytree import pytree, replace, static
from ._typing import AnyArray
from .engine import Rows
from .transport.couplings import Coupling, SemiRelaxed


@pytree
class Problem:
    """min over pi and theta of H_rho(pi, theta) + penalty(theta): entropic transport.

    As it stands by default it is maximum likelihood: the semi-relaxed problem at epsilon = 1 (the
    note's eq. 2.6 and 3.1).

    Attributes:
        x: [n, d] rows.
        sample_weight: [n] weights >= 0 of any positive sum, or None for equal ones. A row of
            weight 0 is absent, whatever it holds; integer weights are repeated rows.
        epsilon: entropy, >= 0; None is 1, known when compiling. With learned scale parameters any
            other value is a biased estimator (p^(1/epsilon) is not normalised).
        coupling: `SemiRelaxed()`, `Penalized(rho, sizes)` or `Balanced(sizes)`.
        learn_weights: whether the proportions move. None: yes, unless the coupling prescribes
            them.
        prior: what `Family.maximize` and `Family.penalty` take, such as a `Ridge`; or None.
        origin: [d] taken off each row, then
        unit: what each is divided by: the mixture describes (x - origin) / unit. `fit` centres and
            scales so, without a second copy of the rows. None is 0 and 1; both are constants to a
            derivative.
    """

    x: AnyArray
    sample_weight: AnyArray | None = None
    epsilon: Array | float | None = None
    coupling: Coupling = SemiRelaxed()
    prior: PyTree = None
    learn_weights: bool | None = static(default=None)
    origin: AnyArray | None = None
    unit: AnyArray | float | None = None

    @property
    def weights_are_learned(self) -> bool:
        """`learn_weights`, with None resolved."""
        fixed = self.coupling.fixes_weights
        return not fixed if self.learn_weights is None else self.learn_weights

    def checked(self) -> "Problem":
        """The same with JAX arrays of one floating dtype.

        Raises:
            AssertionError: at trace time, unless x is [n, d] and sample_weight [n].
        """
        # One copy of NumPy's rows on the device, where asarray makes two.
        x = jax.device_put(self.x) if isinstance(self.x, np.ndarray) else jnp.asarray(self.x)
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)
        chex.assert_rank(x, 2)
        names = "epsilon", "coupling", "prior", "origin", "unit"
        numbers = {name: getattr(self, name) for name in names}
        cast = replace(self, x=x, **jax.tree.map(lambda leaf: jnp.asarray(leaf, x.dtype), numbers))
        if self.sample_weight is None:
            return cast
        sample_weight = jnp.asarray(self.sample_weight).astype(x.dtype)
        chex.assert_shape(sample_weight, (x.shape[0],))
        return replace(cast, sample_weight=sample_weight)

    @property
    def row_weight(self) -> Float[Array, " n"]:
        """A [n]: the weights divided by their sum; all zero if no row is present."""
        n = self.x.shape[0]
        if self.sample_weight is None:
            return jnp.full((n,), 1 / max(n, 1), self.x.dtype)
        return normalize(jnp.asarray(self.sample_weight).astype(self.x.dtype))

    def rows(self) -> Rows:
        """The rows and a, as a pass over them takes them."""
        x, complete = jnp.asarray(self.x), self.sample_weight is None
        origin, unit = jax.tree.map(jnp.asarray, (self.origin, self.unit))
        return Rows.of(x, self.row_weight, origin, unit, complete=complete)
