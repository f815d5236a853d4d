"""Derivatives of the answer from the optimality condition, whatever the solver did."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ..core.tree import pytree, static
from ..model import Mixture, Objective, Solution
from ..model.optimality import Optimality
from ..solvers.loop import Limits, Solver, run
from .base import Adjoint, frozen_weights, values_of, with_answer, with_frozen
from .linear import Spectrum, conjugate_gradients, materialize


@pytree
class Implicit(Adjoint):
    """Differentiates the optimality condition at the answer, in forward and reverse mode.

    With z the unconstrained coordinates and phi the problem (rows, weights, epsilon, rho, prior,
    proportions that are not learned), the answer has grad_z objective(z, phi) = 0, so that

        dz/dphi = -H^-1  d(grad_z objective)/dphi,        H the Hessian in z

    It costs nothing unless a derivative is taken, and then a few Hessian-vector products, whatever
    the number of steps. A component that is absent at the answer stays so, also where proportions
    are held. The derivative with respect to the start is zero, as it is at a fixed point;
    `n_steps`, `status`, `certificate` and `history` carry none. Derivatives of higher order are
    right too.

    The answer has no derivative where the Hessian is not positive definite beyond rounding (merged
    components, a component without mass that is not exactly absent), or where the run ended so far
    from the optimum that the derivative there says nothing. Then the result is `undefined`.

    Attributes:
        undefined: what stands where the answer has no derivative: NaN, or 0.
        max_error: largest estimated relative error of the derivative that is let through; see
            `Conditioning.derivative_error`.
        newton_steps: static number of Newton steps that follow the solver's own, derivative or
            not; each about squares the error of the answer and of its derivative. One that does
            not shrink the gradient, or meets a singular Hessian, is not taken. Status,
            certificate, history and `n_steps` are those of the run before.
        max_dense: static size up to which the Hessian is formed, from p products, and its
            eigenvalues decide whether it is regular. Beyond it, conjugate gradients solve, and
            notice a singular Hessian only along the directions that they take.

    Source: the implicit function theorem; docs/differentiation.md.
    """

    undefined: Array | float = float("nan")
    max_error: Array | float = 1.0
    newton_steps: int = static(default=0)
    max_dense: int = static(default=128)

    def run(
        self, objective: Objective, solver: Solver, initial: Mixture, limits: Limits
    ) -> Solution:
        """Runs without derivatives, then attaches the implicit one."""
        # a while_loop has no reverse mode: the derivative comes from `_attach` alone
        still = jax.lax.stop_gradient(objective)
        solution = run(still, *jax.lax.stop_gradient((solver, initial, limits)))
        if self.newton_steps:
            solution = self._polish(still, solution)
        values = solution.value, solution.negative_log_likelihood, solution.objective
        frozen = frozen_weights(objective, initial)
        return with_answer(solution, *_attach(self, objective, frozen, solution.mixture, values))

    def _polish(self, objective: Objective, solution: Solution) -> Solution:
        mixture = solution.mixture
        for _ in range(self.newton_steps):
            mixture = newton_step(objective, mixture, self.max_dense)
        return with_answer(solution, mixture, values_of(objective, mixture))


@jax.custom_jvp
def _attach(
    adjoint: Implicit, objective: Objective, frozen: Array | None, mixture: Mixture, values: tuple
) -> tuple[Mixture, tuple]:
    """The answer as it is, with the derivative of the optimum of the objective's problem."""
    del adjoint, objective, frozen
    return mixture, values


@_attach.defjvp
def _attach_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    adjoint, objective, frozen = primals[:3]
    outputs = _attach(*primals)  # attached again, for derivatives of higher order

    def optimality(objective: Objective, frozen: Array | None) -> Optimality:
        return Optimality(objective, with_frozen(outputs[0], frozen))

    here = optimality(objective, frozen)
    z, given, moves = here.zeros, (objective, frozen), (tangents[1], tangents[2])
    _, pushed = jax.jvp(lambda o, w: optimality(o, w).gradient(z), given, moves)
    dz = _solve(adjoint, here, -pushed)
    _, mixture_dot = jax.jvp(
        lambda w, z: optimality(objective, w).at(z), (frozen, z), (moves[1], dz)
    )
    _, values_dot = jax.jvp(values_of, (objective, here.mixture), (moves[0], mixture_dot))
    return outputs, (mixture_dot, values_dot)


def _solve(adjoint: Implicit, here: Optimality, right: Float[Array, " p"]) -> Float[Array, " p"]:
    """H^-1 right, in a form that JAX differentiates and transposes."""
    # what judges the solve has no derivative: only product and right side have
    still = jax.lax.stop_gradient(here)
    residual, gauge, scale = still.gradient(still.zeros), still.gauge, still.scale

    def solve(product: Callable[[Array], Array], right: Array) -> Array:
        if right.shape[0] <= adjoint.max_dense:
            spectrum = Spectrum.of(materialize(product, right, here.row_work), gauge)
            answer, error = spectrum.solve(right), newton_error(spectrum, residual)
            sound = spectrum.regular
        else:
            regular = _with_gauge(product, gauge)
            answer, sound = _iterative(regular, right, scale)
            error = _iterative_error(regular, residual, scale)
        # A lane whose derivative nobody asks for asks with zeros, and must not answer NaN.
        sound = (sound & (error <= adjoint.max_error)) | jnp.all(right == 0)
        return jnp.where(sound, answer, adjoint.undefined)

    def product(v: Array) -> Array:
        return here.product(here.zeros, v)

    # symmetric: reverse mode solves with the same function, not a transposed one
    return jax.lax.custom_linear_solve(product, right, solve, symmetric=True)


def _with_gauge(
    product: Callable[[Array], Array], gauge: Float[Array, " p"]
) -> Callable[[Array], Array]:
    """The same with a curvature of common size along the gauge, where rounding would collect."""
    size = jnp.maximum(jnp.sum(gauge), 1)
    return lambda v: product(v) + gauge * jnp.sum(gauge * v) / size**2


def _iterative(
    product: Callable[[Array], Array], right: Array, scale: Array
) -> tuple[Float[Array, " p"], Bool[Array, ""]]:
    tolerance = float(jnp.finfo(right.dtype).eps) ** 0.625
    return conjugate_gradients(product, right, scale, tolerance, 4 * right.shape[0] + 20)


def newton_error(spectrum: Spectrum, residual: Float[Array, " p"]) -> Float[Array, ""]:
    """Length of the Newton step over the smallest eigenvalue.

    The step is how far the optimum is. The coordinates have no units and the Hessian's derivative
    is of its own order there, so over the step H changes by about this share, and H^-1 too.
    """
    lowest = spectrum.values[0]
    length = jnp.linalg.norm(spectrum.solve(residual))
    return jnp.where(lowest > 0, length / jnp.where(lowest > 0, lowest, 1), jnp.inf)


def _iterative_error(
    product: Callable[[Array], Array], residual: Array, scale: Array
) -> Float[Array, ""]:
    """The same, with the curvature along the step, solved to two digits.

    What is left of a slow run lies along the direction of the smallest eigenvalue.
    """
    step, sound = conjugate_gradients(product, residual, scale, 0.01, 2 * residual.shape[0])
    length = jnp.sum(scale * step**2)
    moved = length > 0
    curvature = jnp.sum(step * residual) / jnp.where(moved, length, 1)
    lasting = jnp.linalg.norm(step) / jnp.where(moved & (curvature > 0), curvature, 1)
    return jnp.where(
        moved, jnp.where(curvature > 0, lasting, jnp.inf), jnp.where(sound, 0, jnp.inf)
    )


def newton_step(objective: Objective, mixture: Mixture, max_dense: int) -> Mixture:
    """One Newton step on the optimality condition, if it shrinks the gradient."""
    here = Optimality(objective, mixture)
    z, residual = here.zeros, here.gradient(here.zeros)

    def product(v: Array) -> Array:
        return here.product(z, v)

    if z.shape[0] <= max_dense:
        spectrum = Spectrum.of(materialize(product, z, here.row_work), here.gauge)
        step, sound = spectrum.solve(residual), spectrum.regular
    else:
        step, sound = _iterative(_with_gauge(product, here.gauge), residual, here.scale)
    # Also false for NaN.
    smaller = jnp.linalg.norm(here.gradient(-step)) < jnp.linalg.norm(residual)
    return here.at(jnp.where(smaller & sound, -step, 0))
