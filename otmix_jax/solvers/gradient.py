"""The gradient path: minimise the entropic transport loss with any optax optimiser."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, PyTree

from .._numerics import all_finite
from .._pytree import pytree, replace, static
from ..mixture import Mixture
from ..oracle import Oracle
from ..status import Status
from .base import Progress, Solver, no_progress


@pytree
class GradientState:
    """Coordinates about the start, their gradient, the optimiser's state, and the account."""

    origin: Mixture
    coordinates: PyTree
    gradient: PyTree
    optimizer_state: Any
    progress: Progress
    started: Bool[Array, ""]


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
            given the value, the gradient and the value function. It is part of the program: make
            it once and reuse it, or each new one compiles anew.

    Source: Vayer and Lasalle, arXiv 2501.12005, eq. (2.6): the semi-relaxed loss; its gradient
    is the plan applied to the cost's gradient.
    """

    optimizer: optax.GradientTransformation = static()

    def _evaluate(
        self, oracle: Oracle, origin: Mixture, coordinates: PyTree
    ) -> tuple[Progress, PyTree]:
        def objective(z: PyTree) -> tuple[Array, Array]:
            mixture = _constrain(oracle, origin, z)
            value = oracle.value(mixture)
            return value + oracle.penalty(mixture), value

        (total, value), gradient = jax.value_and_grad(objective, has_aux=True)(coordinates)
        healthy = jnp.isfinite(total) & all_finite((coordinates, gradient))
        status = jnp.where(healthy, Status.CONVERGED.code, Status.NON_FINITE.code)
        return Progress(value, total, 0.5 * _squared_norm(gradient), None, status), gradient

    def init(self, oracle: Oracle, mixture: Mixture) -> GradientState:
        """The origin of the coordinates is the start."""
        zeros = jax.tree.map(jnp.zeros_like, mixture.unconstrained(mixture))
        # No optimiser divides by the norm of this one; its step is not taken.
        blank = jax.tree.map(jnp.ones_like, zeros)
        progress, begin = no_progress(mixture, None), self.optimizer.init(zeros)
        return GradientState(mixture, zeros, blank, begin, progress, jnp.asarray(False))

    def step(self, oracle: Oracle, state: GradientState) -> GradientState:
        """One update of the optimiser, and the gradient where it leads."""
        coordinates, optimizer_state = jax.lax.cond(
            state.started,
            lambda: self._update(oracle, state),
            lambda: (state.coordinates, state.optimizer_state),
        )
        progress, gradient = self._evaluate(oracle, state.origin, coordinates)
        yes = jnp.ones_like(state.started)
        new = GradientState(state.origin, coordinates, gradient, optimizer_state, progress, yes)
        kept = replace(state, progress=replace(state.progress, status=progress.status))
        taken = (progress.status == Status.CONVERGED.code) | ~state.started
        return optax.tree.where(taken, new, kept)

    def _update(self, oracle: Oracle, state: GradientState) -> tuple[PyTree, Any]:
        optimizer = optax.with_extra_args_support(self.optimizer)
        updates, optimizer_state = optimizer.update(
            state.gradient,
            state.optimizer_state,
            state.coordinates,
            value=state.progress.objective,
            grad=state.gradient,
            value_fn=lambda z: oracle.objective(_constrain(oracle, state.origin, z)),
        )
        return optax.apply_updates(state.coordinates, updates), optimizer_state

    def mixture(self, state: GradientState) -> Mixture:
        """The mixture at the coordinates."""
        return state.origin.constrain(state.coordinates)

    def progress(self, state: GradientState) -> Progress:
        """Half the squared gradient norm, as the estimated decrease."""
        return state.progress


def _constrain(oracle: Oracle, origin: Mixture, z: PyTree) -> Mixture:
    """The mixture at coordinates; proportions that are not learned do not feel the gradient."""
    if not oracle.problem.weights_are_learned:
        z = {**z, "log_weights": jax.lax.stop_gradient(z["log_weights"])}
    return origin.constrain(z)
