"""The optimality condition of a problem, as a function of one vector of coordinates."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, PyTree

from ..core.numerics import safe_divide
from ..core.tree import pytree, replace
from .mixtures import Mixture
from .problems import Objective

STIFF = 0.1, 1e4
"""By how much a coordinate's information may differ from its component's share of the rows."""


@pytree
class Optimality:
    """The objective about a mixture, in unconstrained coordinates z [p] with zeros at the mixture.

    At an optimum the gradient vanishes, whatever solver went there. Proportions have coordinates
    only where they are learned; otherwise they are data of the problem.

    Attributes:
        objective: whose objective it is.
        mixture: the origin of the coordinates.
    """

    objective: Objective
    mixture: Mixture

    def _tree(self, tree: dict) -> PyTree:
        # proportions that are held have no coordinates: the Hessian would be singular along them
        learned = self.objective.learns_weights
        return tree if learned else {"components": tree["components"]}

    @property
    def zeros(self) -> Float[Array, " p"]:
        """The coordinates of the mixture itself."""
        return jnp.zeros_like(ravel_pytree(self._tree(self.mixture.unconstrained(self.mixture)))[0])

    def at(self, z: Float[Array, " p"]) -> Mixture:
        """The mixture at coordinates z."""
        unravel = ravel_pytree(self._tree(self.mixture.unconstrained(self.mixture)))[1]
        tree = unravel(z)
        if self.objective.learns_weights:
            return self.mixture.constrain(tree)
        components = self.mixture.components.constrain(tree["components"])
        return replace(self.mixture, components=components)

    def coordinates(self, mixture: Mixture) -> Float[Array, " p"]:
        """Where a mixture lies, the inverse of `at`."""
        return ravel_pytree(self._tree(mixture.unconstrained(self.mixture)))[0]

    def gradient(self, z: Float[Array, " p"]) -> Float[Array, " p"]:
        """The objective's gradient: zero at an optimum."""

        def loss(point: Array) -> Array:
            mixture = self.at(point)
            # held or learned, a component that is absent at the answer stays so: by selection,
            # what it would win is no reason for the others to move
            absent = mixture.log_weights == -jnp.inf
            log_weights = jnp.where(absent, -jnp.inf, mixture.log_weights)
            return self.objective.loss(replace(mixture, log_weights=log_weights))

        return jax.grad(loss)(z)

    def product(self, z: Float[Array, " p"], v: Float[Array, " p"]) -> Float[Array, " p"]:
        """The objective's Hessian at z times v, in the memory of a gradient."""
        return jax.jvp(self.gradient, (z,), (v,))[1]

    @property
    def gauge(self) -> Float[Array, " p"]:
        """The direction that moves nothing: a constant added to the proportions' coordinates."""
        present = (self.mixture.log_weights > -jnp.inf).astype(self.mixture.log_weights.dtype)
        zeros = jax.tree.map(jnp.zeros_like, self.mixture.unconstrained(self.mixture))
        return ravel_pytree(self._tree({**zeros, "log_weights": present}))[0]

    @property
    def scale(self) -> Float[Array, " p"]:
        """A guess at the Hessian's diagonal: a component's coordinates weigh as it does.

        It decides how fast conjugate gradients are, nothing else.
        """
        weights = jnp.maximum(self.mixture.weights, jnp.finfo(self.mixture.log_weights.dtype).eps)
        k = weights.shape[0]

        def weigh(leaf: Array) -> Array:
            if leaf.ndim == 0 or leaf.shape[0] != k:
                return jnp.ones_like(leaf)
            return jnp.broadcast_to(weights.reshape(k, *[1] * (leaf.ndim - 1)), leaf.shape)

        tree = self._tree(self.mixture.unconstrained(self.mixture))
        return ravel_pytree(jax.tree.map(weigh, tree))[0]

    def stiffness(self, gradient: Float[Array, " p"], step: Float[Array, " p"]) -> Array:
        """[p] the complete data's information, from where an M-step goes against a gradient.

        That step is about minus the gradient over the information. One number for the coordinates
        of each field, of each component where it is the component's own.
        """
        tree = self._tree(self.mixture.unconstrained(self.mixture))
        unravel = ravel_pytree(tree)[1]

        def block(weight: Array, pull: Array, length: Array) -> Array:
            own = weight.ndim > 0 and weight.shape[0] == self.mixture.n_components
            axes = tuple(range(1, weight.ndim)) if own else None
            ratio = safe_divide(
                jnp.sum(pull, axis=axes, keepdims=True), jnp.sum(length, axis=axes, keepdims=True)
            )
            ratio = jnp.where(ratio > 0, jnp.clip(ratio, *STIFF), 1)
            return jnp.broadcast_to(weight * ratio, weight.shape)

        weight = self.scale
        parts = weight, -gradient * step, weight * step**2
        return ravel_pytree(jax.tree.map(block, *map(unravel, parts)))[0]

    @property
    def row_work(self) -> int:
        """Numbers that one product holds, about: rows times features times components."""
        size = sum(leaf.size for leaf in jax.tree.leaves(self.objective.rows.x))
        return size * self.mixture.n_components
