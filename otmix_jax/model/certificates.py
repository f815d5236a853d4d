"""The plan of a mixture, and how far the mixture is from the optimum: in numbers."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from ..core.numerics import kl_divergence, log_ratio, normalize, safe_log
from ..core.tree import pytree, replace
from ..core.typing import AnyArray
from ..transport import Inner, Plan, proportions_rate
from ..transport.couplings import Balanced, Coupling, SemiRelaxed, check_entropy
from .mixtures import Mixture
from .problems import Objective, Problem


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


def plan(
    mixture: Mixture,
    x: PyTree,
    *,
    sample_weight: Float[AnyArray, " n"] | None = None,
    coupling: Coupling = SemiRelaxed(),
    epsilon: Array | float | None = None,
    inner: Inner = Inner(),
) -> Plan:
    """The optimal plan between rows and the components of a mixture.

    Args:
        mixture: its components give the cost -log p, its proportions the reference pi.
        x: [n, d] rows, or a dict of columns as the family wants them.
        sample_weight: [n] weights >= 0, divided by their sum; None for equal ones.
        coupling: `SemiRelaxed()`: the responsibilities times the row weights. `Balanced()`: column
            sums are prescribed. `Penalized(rho)`: between the two.
        epsilon: entropy, >= 0; None is 1, known when compiling.
        inner: how the potentials are found.

    Raises:
        ValueError: for rows that are not the mixture's (see `Mixture.log_prob`), sizes of another
            number than its components, and an epsilon or rho, where it is no tracer, out of range:
            0 goes with `SemiRelaxed` alone, as the limit under others is a linear program.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> mixture = om.fit(x, 2, key=0).mixture
        >>> plan = om.plan(mixture, x, coupling=om.couplings.Balanced())
        >>> bool(abs(plan.column_marginal - mixture.weights).max() < 1e-6)
        True
    """
    check_entropy(epsilon, coupling)
    problem = Problem(x, sample_weight, epsilon, coupling).checked(mixture)
    return Objective.of(problem).at(mixture).solve(inner=inner)


def certificate(
    mixture: Mixture,
    x: PyTree,
    *,
    sample_weight: Float[AnyArray, " n"] | None = None,
    epsilon: Array | float | None = None,
) -> Certificate:
    """Certificates of a mixture on rows; `print` it.

    Costs two passes over the rows, and those of the balanced solve (about five).

    Args:
        mixture: the mixture.
        x: [n, d] rows, or a dict of columns as the family wants them.
        sample_weight: [n] weights >= 0, divided by their sum; None for equal ones.
        epsilon: entropy, > 0; None is 1, known when compiling.

    Raises:
        ValueError: for rows that are not the mixture's (see `Mixture.log_prob`), and an epsilon,
            where it is no tracer, that is not > 0.

    Source: Vayer and Lasalle, arXiv 2501.12005, eq. (2.6), (2.7), Proposition 2.3.
    """
    check_entropy(epsilon, Balanced())
    free = Objective.of(Problem(x, sample_weight, epsilon).checked(mixture)).at(mixture)
    log_weights = mixture.log_weights
    sweep = free.sweep(free.columns)
    balanced = replace(free, coupling=Balanced()).solve()
    after = free.sweep(replace(free.columns, log_weights=safe_log(normalize(sweep.mass))))
    rate = proportions_rate(sweep.overlap, log_weights)
    value, entropy = balanced.dual(balanced.g), free.entropy
    divergence = entropy * kl_divergence(jnp.exp(log_weights), sweep.mass)
    return Certificate(
        semi_relaxed=sweep.value,
        balanced=value,
        gap=value - sweep.value,
        divergence=divergence,
        weights_gap=entropy * jnp.max(log_ratio(sweep.mass, log_weights)),
        rate=rate,
        # the square: decreases go with the square of the error
        aitken_gap=(sweep.value - after.value) / (1 - rate**2),
    )
