"""The row-wise softmax: the note's plan for a given cost, in the log domain.

With the reference weights b = pi, column potentials g and entropy epsilon,

    f_i     = -epsilon log sum_j pi_j exp((g_j - c_ij) / epsilon)
    P_ij/a_i = pi_j exp((f_i + g_j - c_ij) / epsilon)

the rows of P / a sum to one exactly, for every g. At epsilon = 1 and g = 0, f_i is the negative
log-likelihood of row i (the note's eq. 2.6) and P / a are the responsibilities (eq. 3.2).
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._numerics import logsumexp, safe_log


def row_softmax(
    cost: Float[Array, "n k"],
    log_weights: Float[Array, " k"],
    g: Float[Array, " k"] | float = 0.0,
    epsilon: Float[Array, ""] | float = 1.0,
) -> tuple[Float[Array, " n"], Float[Array, "n k"]]:
    """Row potential f and conditional plan P / a of a cost matrix.

    Args:
        cost: [n, k] cost c_ij = -log p(x_i | theta_j); +inf allowed.
        log_weights: [k] log pi; -inf marks an absent component, whose cost is not read.
        g: [k] column potentials; 0 is the semi-relaxed problem, that is maximum likelihood.
        epsilon: entropy, > 0.

    Returns:
        f [n], in the units of the cost (nats), and the conditional plan [n, k], whose rows sum
        to 1. A row out of reach of every component (all costs +inf) has f = +inf and follows pi.

    Source: Vayer and Lasalle, arXiv 2501.12005, eq. (2.6) and (3.2).
    """
    present = log_weights > -jnp.inf
    logits = log_weights + (g - jnp.where(present, cost, 0)) / epsilon
    log_total = logsumexp(logits, axis=1)
    lost = log_total == -jnp.inf
    # Without the inner `where`, -inf - -inf would put NaN into the values and the gradient.
    centred = logits - jnp.where(lost, 0, log_total)[:, None]
    conditional = jnp.where(lost[:, None], jnp.exp(log_weights), jnp.exp(centred))
    return -epsilon * log_total, conditional


def kl_divergence(p: Float[Array, "*shape"], q: Float[Array, "*shape"]) -> Float[Array, ""]:
    """KL(p | q) = sum p log(p / q) - p + q, with 0 log 0 = 0; +inf unless p << q.

    For two arrays of the same total mass it is the note's KL (its section 1).
    """
    continuous = jnp.all((p == 0) | (q != 0))
    log_ratio = safe_log(jnp.where(p != 0, p, 1)) - safe_log(jnp.where(q != 0, q, 1))
    terms = jnp.where(p != 0, p * log_ratio, 0) - p + q
    return jnp.where(continuous, jnp.sum(terms), jnp.inf)
