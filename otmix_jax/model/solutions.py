"""What a run returns: the mixture, and what the run says of itself."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from ..core.files import Saved
from ..core.status import Status
from ..core.tree import pytree, replace, static
from ..families.coordinates import Frame
from . import display
from .mixtures import Mixture
from .summaries import Summary, summarise


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
        spurious: [k] which components win likelihood by being singular, or nearly so, on a few
            rows or equal values; only looked at where a prior has a floor, as by default in `fit`.
    """

    weights_gap: Array
    divergence: Array
    rate: Array
    aitken_gap: Array
    spurious: Array


@pytree
class Solution(Saved):
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
        learns_weights: whether the proportions were learned; held or prescribed ones are no
            parameters.
    """

    mixture: Mixture
    value: Array
    negative_log_likelihood: Array
    objective: Array
    certificate: RunCertificate
    status: Array
    n_steps: Array
    history: Array
    learns_weights: bool = static(default=True)
    _repr_html_ = display.solution_page

    def __repr__(self) -> str:
        return display.solution_line(self)

    @property
    def n_parameters(self) -> int:
        """Free parameters: what was learned of the components, and K - 1 proportions if any."""
        learned = self.learns_weights or self.mixture.components.gated
        return self.mixture.n_parameters - (0 if learned else self.mixture.n_components - 1)

    def log_likelihood(self, total_weight: float) -> Float[Array, ""]:
        """Total log-likelihood of `total_weight` rows (n without sample weights)."""
        return -total_weight * self.negative_log_likelihood

    def bic(self, total_weight: float) -> Float[Array, ""]:
        """BIC in scikit-learn's sign (lower is better): -2 log-likelihood + parameters log n."""
        return -2 * self.log_likelihood(total_weight) + self.n_parameters * jnp.log(total_weight)

    def summary(
        self,
        x: PyTree = None,
        sample_weight: Any = None,
        *,
        names: Sequence[str] = (),
        errors: bool | None = None,
    ) -> Summary:
        """A summary to read: family, likelihood, AIC, BIC, ICL, status, certificate, parameters.

        Args:
            x: the rows that were fitted, for what depends on them: total log-likelihood, AIC, BIC,
                ICL and standard errors. None: what the solution itself knows.
            sample_weight: as in the fit.
            names: of the columns; by default those of a data frame, or of `rows.regression`.
            errors: standard errors, by the observed information (`om.standard_errors`); None leaves
                them out beyond 300 parameters.

        Raises:
            ValueError: for other rows than those of the fit, within `jit`, and of a batch.

        Example:
            >>> import otmix_jax as om
            >>> x = om.datasets.old_faithful().x
            >>> print(om.fit(x, 2, key=0).summary(x))  # doctest: +ELLIPSIS
            components              2 x Gaussian(covariance=Full), d=2
            rows                    272
            log-likelihood          -1130.2640
            ...
        """
        return summarise(self, x, sample_weight, names=names, errors=errors)

    def out_of(self, frame: Frame, prior: Any = None) -> "Solution":
        """The solution of the same problem for rows of which these are `frame.into(x)`.

        Args:
            frame: where the rows were fitted.
            prior: the problem's, whose pseudo-rows gain as each row does.
        """
        stretch = jnp.asarray(frame.log_volume, self.value.dtype)
        extra = 0.0 if prior is None else prior.constant(frame, self.mixture.n_components)
        components = self.mixture.components.out_of(frame)
        # in the frame all digits are there: far from 0, rounding may take them from the means
        lost = components.imprecise() & (self.mixture.log_weights > -jnp.inf)
        lost = jnp.any(lost & ~self.certificate.spurious) | ~jnp.isfinite(stretch)
        return replace(
            self,
            mixture=replace(self.mixture, components=components),
            status=jnp.maximum(self.status, jnp.where(lost, int(Status.IMPRECISE), 0)),
            value=self.value + stretch,
            negative_log_likelihood=self.negative_log_likelihood + stretch,
            objective=self.objective + stretch + extra,
            history=self.history + stretch,
        )
