"""How far a mixture is from the optimum, and why EM is fast or slow there: in numbers."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._numerics import normalize, safe_log
from .._pytree import pytree, replace
from .._rows import kl_divergence
from .._typing import AnyArray
from ..engine import Columns
from .couplings import Balanced, SemiRelaxed
from .plan import log_ratio, rows_problem


@pytree
class Certificate:
    """What one look at the plan says of a mixture; all in nats per row but the rate.

    Attributes:
        semi_relaxed: F, the mean negative log-likelihood at epsilon = 1.
        balanced: G, the entropic transport cost with the proportions prescribed; G >= F.
        gap: G - F.
        divergence: epsilon KL(pi | pi+), pi+ the plan's sizes: a free lower bound on the gap.
        weights_gap: epsilon log max_j pi+_j / pi_j: at most this much of F can be won by moving
            the proportions alone.
        rate: the factor by which EM's error in the proportions shrinks per step, near the optimum.
        aitken_gap: what EM in the proportions alone would still win, extrapolated from one step.
    """

    semi_relaxed: Array
    balanced: Array
    gap: Array
    divergence: Array
    weights_gap: Array
    rate: Array
    aitken_gap: Array

    def __str__(self) -> str:
        """A table that says what each line means."""
        meanings = {
            "semi_relaxed": ("F", "semi-relaxed value: mean negative log-likelihood (epsilon 1)"),
            "balanced": ("G", "balanced value: entropic transport with sizes pi"),
            "gap": ("G - F", "zero exactly when the plan's sizes are the proportions"),
            "divergence": ("eps KL(pi | pi+)", "lower bound on G - F, at no cost"),
            "weights_gap": ("eps log max D", "upper bound on what better proportions can win"),
            "aitken_gap": ("Aitken gap", "estimate of what better proportions can win"),
            "rate": ("rate", "EM's contraction in the proportions; near 1 is slow"),
        }
        lines = [
            f"{symbol:>17}  {float(getattr(self, name)):14.8g}  {meaning}"
            for name, (symbol, meaning) in meanings.items()
        ]
        return "\n".join(lines)


def certificate(
    mixture: Any,
    x: Float[AnyArray, "n d"],
    *,
    sample_weight: Float[AnyArray, " n"] | None = None,
    epsilon: Array | float = 1.0,
) -> Certificate:
    """Certificates of a mixture on rows; `print` it.

    Costs two passes over the rows, and those of the balanced solve (about five).

    Args:
        mixture: the mixture.
        x: [n, d] rows.
        sample_weight: [n] weights >= 0, divided by their sum; None for equal ones.
        epsilon: entropy, > 0.

    Source: Vayer and Lasalle, arXiv 2501.12005, eq. (2.6), (2.7), Proposition 2.3.
    """
    free = rows_problem(mixture, x, sample_weight, SemiRelaxed(), epsilon)
    log_weights = mixture.log_weights
    sweep = free.sweep(free.columns)
    balanced = replace(free, coupling=Balanced())
    g = balanced.solve().g
    after = free.sweep(Columns(safe_log(normalize(sweep.mass)), None, epsilon))
    rate = proportions_rate(sweep.overlap, log_weights)
    value = balanced.value(g)
    divergence = epsilon * kl_divergence(jnp.exp(log_weights), sweep.mass)
    return Certificate(
        semi_relaxed=sweep.value,
        balanced=value,
        gap=value - sweep.value,
        divergence=divergence,
        weights_gap=epsilon * jnp.max(log_ratio(sweep.mass, log_weights)),
        rate=rate,
        aitken_gap=(sweep.value - after.value) / (1 - rate**2),
    )


def proportions_rate(overlap: Array, log_weights: Array) -> Float[Array, ""]:
    """1 - s_min, s the squared singular values of diag(a)^-1/2 P diag(pi)^-1/2.

    EM in the proportions is slow where components overlap (s_min near 0); Sinkhorn's rate is the
    second largest s, so it is slow where they lie apart.
    """
    present = log_weights > -jnp.inf
    root = jnp.exp(-0.5 * jnp.where(present, log_weights, 0))
    both = present[:, None] & present
    scaled = jnp.where(both, overlap * root[:, None] * root, jnp.eye(len(root)))
    return 1 - jnp.min(jnp.linalg.eigvalsh(scaled.astype(overlap.dtype)))
