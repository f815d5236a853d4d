"""What a run returns."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ._pytree import pytree, replace
from .mixture import Mixture


@pytree
class RunCertificate:
    """What a run says of its own end, at no further pass over the rows (semi-relaxed problems).

    Attributes:
        weights_gap: log max_j pi+_j / pi_j, pi+ the softmax plan's sizes: at fixed components,
            other proportions win at most this much of the likelihood, in nats.
        divergence: KL(pi | pi+): at most the excess G - F of the balanced value over the
            semi-relaxed one, in nats; zero exactly where the two are equal.
        rate: the factor by which a step shrinks the error, from the last two decreases; near 1 is
            slow. NaN where there is no such factor.
        aitken_gap: what further steps would still win, extrapolated from the last decrease at
            that rate, in nats. An estimate, for solvers that converge linearly, as EM does.
    """

    weights_gap: Array
    divergence: Array
    rate: Array
    aitken_gap: Array


@pytree
class Solution:
    """A mixture and how it was reached; a PyTree of arrays, batched under `vmap`.

    Attributes:
        mixture: the answer: the last finite parameters.
        value: transport value of `mixture` itself, in nats per row: by default (epsilon 1, free
            sizes) the mean negative log-likelihood.
        negative_log_likelihood: that of `mixture` at epsilon 1 with free sizes, whatever was
            minimised, so that fits compare.
        objective: `value` plus the prior's penalty: what was minimised.
        certificate: how far the answer may be from the optimum.
        status: integer; `Status(int(solution.status))` names it.
        n_steps: steps taken.
        history: [history_size] value of the start (entry 0) and after each step; NaN beyond
            `n_steps`. Steps beyond its size are taken and not recorded. Under EM it never rises;
            with a prior it is the objective that never rises.
    """

    mixture: Mixture
    value: Array
    negative_log_likelihood: Array
    objective: Array
    certificate: "RunCertificate"
    status: Array
    n_steps: Array
    history: Array

    def log_likelihood(self, total_weight: float) -> Float[Array, ""]:
        """Total log-likelihood of `total_weight` rows (n without sample weights)."""
        return -total_weight * self.negative_log_likelihood

    def bic(self, total_weight: float) -> Float[Array, ""]:
        """BIC in scikit-learn's sign (lower is better): -2 log-likelihood + parameters log n."""
        parameters = self.mixture.n_parameters
        return -2 * self.log_likelihood(total_weight) + parameters * jnp.log(total_weight)

    def affine(self, scale: Float[Array, ""], shift: Float[Array, " d"]) -> "Solution":
        """The solution of the same problem for the rows `scale * x + shift`, scale > 0."""
        mixture = self.mixture
        components = mixture.components.affine(scale, shift)
        stretch = shift.shape[0] * jnp.log(scale)
        return replace(
            self,
            mixture=replace(mixture, components=components),
            value=self.value + stretch,
            negative_log_likelihood=self.negative_log_likelihood + stretch,
            objective=self.objective + stretch,
            history=self.history + stretch,
        )
