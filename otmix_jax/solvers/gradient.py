"""The gradient path: minimise the entropic transport loss with any optax optimiser."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from .._numerics import all_finite
from .._pytree import pytree, replace, static
from ..mixture import Mixture
from ..oracle import Oracle
from ..status import Status
from .base import Progress, Solver


@pytree
class GradientState:
    """Coordinates about the start, their gradient, the optimiser's state, and the account."""

    origin: Mixture
    coordinates: PyTree
    gradient: PyTree
    optimizer_state: Any
    progress: Progress


def _squared_norm(tree: PyTree) -> Array:
    return jnp.sum(ravel_pytree(tree)[0] ** 2)


@pytree
class Gradient(Solver):
    """Descends the same objective as `EM`, over unconstrained coordinates about the start.

    The coordinates have no units (`Mixture.constrain`), so one step size fits all data. The
    estimated decrease that is held against the tolerance is half the squared gradient: the gain
    of a unit step where the curvature is one.

    Attributes:
        optimizer: any optax `GradientTransformation`; line-search ones (`optax.lbfgs()`) are
            given the value, the gradient and the value function.

    Source: Vayer and Lasalle, arXiv 2501.12005, eq. (2.6): the semi-relaxed loss; its gradient
    is the plan applied to the cost's gradient.
    """

    optimizer: optax.GradientTransformation = static()

    def _evaluate(self, oracle: Oracle, origin: Mixture, coordinates: PyTree) -> tuple:
        def objective(z: PyTree) -> tuple[Array, Array]:
            mixture = origin.constrain(z)
            value = oracle.value(mixture)
            return value + oracle.penalty(mixture), value

        (objective_value, value), gradient = jax.value_and_grad(objective, has_aux=True)(
            coordinates
        )
        return objective_value, value, gradient

    def init(self, oracle: Oracle, mixture: Mixture) -> GradientState:
        """The origin of the coordinates is the start."""
        zeros = jax.tree.map(jnp.zeros_like, mixture.unconstrained(mixture))
        objective, value, gradient = self._evaluate(oracle, mixture, zeros)
        healthy = jnp.isfinite(objective) & all_finite(gradient)
        status = jnp.where(healthy, Status.CONVERGED.code, Status.NON_FINITE.code)
        progress = Progress(value, objective, 0.5 * _squared_norm(gradient), status)
        return GradientState(mixture, zeros, gradient, self.optimizer.init(zeros), progress)

    def step(self, oracle: Oracle, state: GradientState) -> GradientState:
        """One update of the optimiser."""
        optimizer = optax.with_extra_args_support(self.optimizer)
        updates, optimizer_state = optimizer.update(
            state.gradient,
            state.optimizer_state,
            state.coordinates,
            value=state.progress.objective,
            grad=state.gradient,
            value_fn=lambda z: oracle.objective(state.origin.constrain(z)),
        )
        coordinates = optax.apply_updates(state.coordinates, updates)
        objective, value, gradient = self._evaluate(oracle, state.origin, coordinates)
        healthy = jnp.isfinite(objective) & all_finite((coordinates, gradient))
        before = state.progress
        progress = Progress(
            value,
            objective,
            0.5 * _squared_norm(gradient),
            jnp.full_like(before.status, Status.CONVERGED.code),
        )
        failed = replace(before, status=jnp.full_like(before.status, Status.NON_FINITE.code))
        new = GradientState(state.origin, coordinates, gradient, optimizer_state, progress)
        return jax.tree.map(
            lambda good, kept: jnp.where(healthy, good, kept), new, replace(state, progress=failed)
        )

    def mixture(self, state: GradientState) -> Mixture:
        """The mixture at the coordinates."""
        return state.origin.constrain(state.coordinates)

    def progress(self, state: GradientState) -> Progress:
        """Half the squared gradient norm, as the estimated decrease."""
        return state.progress
