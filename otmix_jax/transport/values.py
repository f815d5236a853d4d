"""Values of transport problems given by a cost matrix: for teachers, tests and other models."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float

from ..core.numerics import kl_divergence, log_proportions, normalize
from ..core.tree import pytree
from ..core.typing import AnyArray
from ..engine import Columns, Rows
from .couplings import Balanced, Coupling, SemiRelaxed, check_entropy, check_range
from .newton import Inner, Potential
from .plans import Plan


@pytree
class CostMatrix:
    """Components whose cost is the row itself: a transport problem without a mixture."""

    def cost(self, x: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """The rows."""
        return x

    def prepared_cost(self) -> Any:
        """The same, to call."""
        return Partial(CostMatrix.cost, self)


def _plan(
    cost: AnyArray,
    row_weight: AnyArray,
    weights: AnyArray,
    coupling: Coupling,
    epsilon: Array | float | None,
) -> Plan:
    check_entropy(epsilon, coupling)
    log_weights = coupling.reference(log_proportions(normalize(jnp.asarray(weights))))
    rows = Rows(jnp.asarray(cost), normalize(jnp.asarray(row_weight)))
    return Plan(rows, CostMatrix(), Columns(log_weights, None, epsilon), coupling)


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
        epsilon: entropy, > 0; 0 with `SemiRelaxed` alone.
        inner: Newton (the default) or Sinkhorn steps.

    Raises:
        ValueError: for an epsilon or rho, where it is no tracer, out of range.
    """
    plan = _plan(cost, row_weight, weights, coupling, epsilon).solve(inner=inner)
    return plan.potential  # type: ignore[return-value]


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
    semi-relaxed to the balanced value. A weight of 0 leaves its column out; with free sizes its
    derivative is the one-sided one all the same, else that of the others' normalisation alone.

    Raises:
        ValueError: for an epsilon or rho, where it is no tracer, out of range: epsilon = 0 goes
            with free sizes alone, as the limit under others is a linear program.

    Source: Vayer and Lasalle, arXiv 2501.12005, eq. (2.7) for the two ends.
    """
    plan = _plan(cost, row_weight, weights, coupling, epsilon)
    return plan.dual(None if coupling.free else plan.g)


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

    Raises:
        ValueError: for an epsilon, where it is no tracer, out of range.
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

    Raises:
        ValueError: for an epsilon, where it is no tracer, that is not > 0.
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

    Raises:
        ValueError: for an epsilon, where it is no tracer, out of range.
    """
    check_range(epsilon, "epsilon")
    plan, cost = jnp.asarray(matrix), jnp.asarray(cost)
    # twice `where`: 0 * inf is NaN, in the derivative too
    paid = jnp.sum(jnp.where(plan != 0, plan * jnp.where(plan != 0, cost, 0), 0))
    reference = normalize(jnp.asarray(row_weight))[:, None] * normalize(jnp.asarray(weights))
    return paid + epsilon * kl_divergence(plan, reference)
