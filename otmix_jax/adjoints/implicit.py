"""Derivatives of the answer from the optimality condition, whatever the solver did."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from .._pytree import pytree, replace
from ..mixture import Mixture
from ..oracle import Oracle
from ..solution import Solution
from ..solvers.base import Solver
from ..solvers.driver import Limits, run
from .base import Adjoint


def _gradient(oracle: Oracle, mixture: Mixture, coordinates: PyTree) -> PyTree:
    """The objective's gradient in coordinates about a mixture: zero at an optimum.

    The proportions' coordinates have a gauge (adding a constant moves nothing). The quadratic
    term fixes it, without moving the optimum, so that the Hessian is regular there.
    """

    def objective(z: PyTree) -> Array:
        if not oracle.problem.weights_are_learned:
            still = jax.lax.stop_gradient(z["log_weights"])
            fixed = oracle.objective(mixture.constrain({**z, "log_weights": still}))
            return fixed + 0.5 * jnp.sum(z["log_weights"] ** 2)
        return oracle.objective(mixture.constrain(z)) + 0.5 * jnp.sum(z["log_weights"]) ** 2

    return jax.grad(objective)(coordinates)


@jax.custom_jvp
def _attach(oracle: Oracle, mixture: Mixture, values: tuple) -> tuple:
    """The answer as it is, with the derivative of the optimum of the oracle's problem."""
    del oracle
    return mixture, values


def _values(oracle: Oracle, mixture: Mixture) -> tuple[Array, Array, Array]:
    value = oracle.value(mixture)
    likelihood = value if oracle.is_likelihood else oracle.likelihood().value(mixture)
    return value, likelihood, value + oracle.penalty(mixture)


@_attach.defjvp
def _attach_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """Implicit function theorem: dz = -H^-1 d(gradient), H the Hessian in the coordinates.

    H is symmetric and, at a minimum, positive semi-definite, so conjugate gradients with
    Hessian-vector products solve for it, and JAX transposes that solve for reverse mode.
    """
    oracle, mixture, _ = primals
    zeros = jax.tree.map(jnp.zeros_like, mixture.unconstrained(mixture))
    flat, unravel = ravel_pytree(zeros)
    _, moved = jax.jvp(lambda o: _gradient(o, mixture, zeros), (oracle,), (tangents[0],))

    def hessian(v: Array) -> Array:
        product = jax.jvp(lambda z: _gradient(oracle, mixture, z), (zeros,), (unravel(v),))[1]
        return ravel_pytree(product)[0]

    def solve(matvec: Callable[[Array], Array], right: Array) -> Array:
        tolerance = float(8 * jnp.finfo(flat.dtype).eps)
        limit = 4 * flat.shape[0] + 20
        return jax.scipy.sparse.linalg.cg(matvec, right, tol=tolerance, maxiter=limit)[0]

    right = -ravel_pytree(moved)[0]
    direction = jax.lax.custom_linear_solve(hessian, right, solve, symmetric=True)
    mixture_dot = jax.jvp(mixture.constrain, (zeros,), (unravel(direction),))[1]
    values_dot = jax.jvp(_values, (oracle, mixture), (tangents[0], mixture_dot))[1]
    return tuple(primals[1:]), (mixture_dot, values_dot)


@pytree
class Implicit(Adjoint):
    """Differentiates the optimality condition at the answer, in forward and reverse mode.

    Costs nothing unless a derivative is taken, and then a few Hessian-vector products, whatever
    the number of steps. It is as right as the answer is converged. The derivative with respect to
    the start is zero, as it is at a fixed point; `n_steps`, `status` and `history` carry none.
    """

    def run(self, oracle: Oracle, solver: Solver, initial: Mixture, limits: Limits) -> Solution:
        """Runs without derivatives, then attaches the implicit one."""
        solution = run(*jax.lax.stop_gradient((oracle, solver, initial, limits)))
        values = solution.value, solution.negative_log_likelihood, solution.objective
        mixture, (value, likelihood, objective) = _attach(oracle, solution.mixture, values)
        return replace(
            solution,
            mixture=mixture,
            value=value,
            negative_log_likelihood=likelihood,
            objective=objective,
        )
