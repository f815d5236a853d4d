"""The gradient path: minimise the entropic transport loss with any optax optimiser."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ..core.numerics import all_finite
from ..core.status import Status
from ..core.tree import pytree, replace, select, static
from ..model import Mixture, Objective
from .loop import Progress, Solver, no_progress

if TYPE_CHECKING:
    from optax import GradientTransformation
else:
    # who makes a `Gradient` has imported optax; all others are spared its .1 s
    GradientTransformation = Any


@pytree
class Slope:
    """What a gradient method asks: value, objective, and the objective's gradient."""

    value: Array
    objective: Array
    gradient: PyTree


@pytree
class GradientState:
    """Coordinates about the start, the optimiser's state, and the account."""

    origin: Mixture
    coordinates: PyTree
    optimizer_state: Any
    progress: Progress


def _slope(objective: Objective, origin: Mixture, coordinates: PyTree) -> Slope:
    def loss(z: PyTree) -> tuple[Array, Array]:
        mixture = _constrain(objective, origin, z)
        value = objective.value(mixture)
        return value + objective.penalty(mixture), value

    (total, value), gradient = jax.value_and_grad(loss, has_aux=True)(coordinates)
    return Slope(value, total, gradient)


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

    optimizer: GradientTransformation = static()
    question = staticmethod(_slope)

    def init(self, objective: Objective, mixture: Mixture) -> tuple[GradientState, tuple, Progress]:
        """The origin of the coordinates is the start."""
        del objective
        zeros = jax.tree.map(jnp.zeros_like, mixture.unconstrained(mixture))
        progress = no_progress(mixture, None)
        state = GradientState(mixture, zeros, self.optimizer.init(zeros), progress)
        return state, (mixture, zeros), progress

    def update(
        self, objective: Objective, state: GradientState, candidate: tuple, evaluation: Slope
    ) -> tuple[GradientState, tuple, Progress]:
        """The candidate becomes current, and the optimiser says where to look next."""
        import optax

        origin, coordinates = candidate
        healthy = jnp.isfinite(evaluation.objective)
        healthy &= all_finite((coordinates, evaluation.gradient))
        status = jnp.where(healthy, int(Status.CONVERGED), int(Status.NON_FINITE))
        squared = jnp.sum(ravel_pytree(evaluation.gradient)[0] ** 2)
        progress = Progress(
            evaluation.value, evaluation.objective, 0.5 * squared, None, status.astype(jnp.int32)
        )
        # line searches take value and function; others would refuse the names
        optimizer = optax.with_extra_args_support(self.optimizer)
        updates, optimizer_state = optimizer.update(
            evaluation.gradient,
            state.optimizer_state,
            coordinates,
            value=evaluation.objective,
            grad=evaluation.gradient,
            value_fn=lambda z: objective.loss(_constrain(objective, origin, z)),
        )
        taken = GradientState(origin, coordinates, optimizer_state, progress)
        kept = replace(state, progress=replace(state.progress, status=progress.status))
        # inf: the start has not been evaluated yet, see `no_progress`
        first = jnp.isinf(state.progress.objective)
        state = select(healthy | first, taken, kept)
        return state, (origin, optax.apply_updates(coordinates, updates)), state.progress

    def mixture(self, state: GradientState) -> Mixture:
        """The mixture at the coordinates."""
        return state.origin.constrain(state.coordinates)


def _constrain(objective: Objective, origin: Mixture, z: PyTree) -> Mixture:
    """The mixture at coordinates; proportions that are not learned do not feel the gradient."""
    if not objective.learns_weights:
        # stopped, not left out: the optimiser's state keeps its structure
        z = {**z, "log_weights": jax.lax.stop_gradient(z["log_weights"])}
    return origin.constrain(z)
