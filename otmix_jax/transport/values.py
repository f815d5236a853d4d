"""Values of transport problems given by a cost matrix: for teachers, tests and other models."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._numerics import normalize, safe_log
from .._pytree import pytree
from .._rows import kl_divergence, row_softmax
from .._typing import AnyArray
from ..engine.kernels.base import dual_sweep
from ..engine.sweep import Columns, DualSweep
from .couplings import Balanced, Coupling, SemiRelaxed
from .potential import DualProblem, Inner, Potential, attach, solve_potential


@pytree
class CostProblem(DualProblem):
    """A cost matrix [n, k] with row weights [n] and a coupling."""

    cost: Array
    row_weight: Array
    columns: Columns
    coupling: Coupling

    def sweep(self, columns: Columns) -> DualSweep:
        """See `DualProblem.sweep`."""
        f, conditional = row_softmax(
            self.cost, columns.log_weights, columns.potentials, columns.epsilon
        )
        return dual_sweep(f, conditional, self.row_weight)


def _problem(
    cost: AnyArray,
    row_weight: AnyArray,
    weights: AnyArray,
    coupling: Coupling,
    epsilon: Array | float,
) -> CostProblem:
    cost = jnp.asarray(cost)
    log_weights = coupling.reference(safe_log(normalize(jnp.asarray(weights))))
    columns = Columns(log_weights, None, epsilon)
    return CostProblem(cost, normalize(jnp.asarray(row_weight)), columns, coupling)


def potential(
    cost: Float[AnyArray, "n k"],
    row_weight: Float[AnyArray, " n"],
    weights: Float[AnyArray, " k"],
    coupling: Coupling = SemiRelaxed(),
    epsilon: Array | float = 1.0,
    *,
    inner: Inner = Inner(),
) -> Potential:
    """The column potentials that maximise the dual, with the account of the inner solve.

    Args:
        cost: [n, k], +inf allowed.
        row_weight: [n] a, divided by its sum.
        weights: [k] pi, divided by its sum.
        coupling: `SemiRelaxed()`, `Penalized(rho)` or `Balanced()`.
        epsilon: entropy, > 0.
        inner: Newton (the default) or Sinkhorn steps.
    """
    problem = _problem(cost, row_weight, weights, coupling, epsilon)
    zeros = jnp.zeros_like(problem.columns.log_weights)
    if coupling.free:
        return Potential(zeros, jnp.zeros((), zeros.dtype), jnp.zeros((), jnp.int32))
    found = solve_potential(*jax.lax.stop_gradient((problem, zeros)), inner)
    return Potential(attach(problem, found.g), found.residual, found.n_sweeps)


def coupled_value(
    cost: Float[AnyArray, "n k"],
    row_weight: Float[AnyArray, " n"],
    weights: Float[AnyArray, " k"],
    coupling: Coupling,
    epsilon: Array | float = 1.0,
) -> Float[Array, ""]:
    """H_rho: min over P with P 1 = a of <C, P> + epsilon KL(P | a pi^T) + rho KL(P^T 1 | b).

    Differentiable in cost, row_weight, weights, epsilon and rho, to any order: by the envelope
    theorem at first, by the implicit function theorem beyond. Increasing in rho, from the
    semi-relaxed to the balanced value.

    Source: Vayer and Lasalle, arXiv 2501.12005, eq. (2.7) for the two ends.
    """
    problem = _problem(cost, row_weight, weights, coupling, epsilon)
    return problem.value(potential(cost, row_weight, weights, coupling, epsilon).g)


def semi_relaxed_value(
    cost: Float[AnyArray, "n k"],
    row_weight: Float[AnyArray, " n"],
    weights: Float[AnyArray, " k"],
    epsilon: Array | float = 1.0,
) -> Float[Array, ""]:
    """F = -epsilon sum_i a_i log sum_j pi_j exp(-C_ij / epsilon), the value with free sizes.

    The minimum over P with P 1 = a of <C, P> + epsilon KL(P | a pi^T), in closed form: rows
    decouple, and each is a softmax. At epsilon = 1 and C = -log p it is the mean negative
    log-likelihood (the note's eq. 2.6); epsilon = 0 is sum_i a_i min_j C_ij.
    """
    return coupled_value(cost, row_weight, weights, SemiRelaxed(), epsilon)


def entropic_ot_value(
    cost: Float[AnyArray, "n k"],
    row_weight: Float[AnyArray, " n"],
    weights: Float[AnyArray, " k"],
    epsilon: Array | float = 1.0,
) -> Float[Array, ""]:
    """G = OT_epsilon(a, pi, C): the same minimum with the sizes prescribed, P^T 1 = pi.

    G >= F, with equality exactly where the softmax plan already has the sizes pi.
    """
    return coupled_value(cost, row_weight, weights, Balanced(), epsilon)


def primal_value(
    matrix: Float[AnyArray, "n k"],
    cost: Float[AnyArray, "n k"],
    row_weight: Float[AnyArray, " n"],
    weights: Float[AnyArray, " k"],
    epsilon: Array | float = 1.0,
) -> Float[Array, ""]:
    """<C, P> + epsilon KL(P | a pi^T) of any plan; 0 * inf is 0, +inf unless P << a pi^T.

    The gap identity: for every P with rows a it is F + epsilon KL(P | P*), P* the softmax plan.
    """
    plan, cost = jnp.asarray(matrix), jnp.asarray(cost)
    paid = jnp.sum(jnp.where(plan != 0, plan * jnp.where(plan != 0, cost, 0), 0))
    reference = normalize(jnp.asarray(row_weight))[:, None] * normalize(jnp.asarray(weights))
    return paid + epsilon * kl_divergence(plan, reference)
