"""How many components there are, by the likelihood ratio and its bootstrap."""

import dataclasses
import warnings
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray, PyTree

from ..core.status import Status
from ..core.tree import index, replace
from ..fitting import Batch, ConvergenceWarning, fit, fit_batch
from ..fitting.edge import check_count, check_key
from ..fitting.options import Starts
from ..model import Solution
from ..model.mixtures import rows_for
from .replications import check_drawable

SEARCHES = 16
"""Starts of each fit."""


@dataclasses.dataclass(frozen=True)
class RatioTest:
    """A test of K components against K + 1.

    Attributes:
        statistic: 2 (log L_{K+1} - log L_K) of the rows, in nats.
        p_value: (1 + number of replicates at or above it) / (1 + number of replicates).
        replicates: [b] the statistic of samples from the best mixture of K components; NaN where
            a fit failed.
        null: the fit of K components.
        alternative: that of K + 1.
    """

    statistic: float
    p_value: float
    replicates: Float[np.ndarray, " b"]
    null: Solution
    alternative: Solution


def bootstrap_lrt(
    x: PyTree,
    k: int,
    *,
    key: PRNGKeyArray | int,
    n_replications: int = 199,
    family: Any = None,
    covariance: Any = None,
    starts: Starts = Starts(),
) -> RatioTest:
    """Tests K components against K + 1 by a parametric bootstrap of the likelihood ratio.

    The ratio has no chi-squared law here: K components are K + 1 with one of weight 0. So both are
    fitted to samples of the fitted mixture of K, with the very search that the rows get: a better
    search for the rows alone would make every ratio look large. For the same reason samples count
    whatever their status; only where the likelihood is no number are they left out.

    Args:
        x: [n, d] rows, or a dict of columns as the family wants them.
        k: K, of the null hypothesis.
        key: a typed PRNG key, or an integer seed.
        n_replications: samples; p-values are multiples of one over one more.
        family: see `fit`.
        covariance: see `fit`.
        starts: of every fit; see `fit_batch`. 16 by default: with 8, one search in four missed the
            best three free Gaussians of Old Faithful.

    Raises:
        ValueError: for rows that cannot be fitted.
        FitError: where K components cannot.

    Warns:
        ConvergenceWarning: where a fit to the rows themselves is no proper mixture.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> short = om.Starts(n_init=2)
        >>> om.inference.bootstrap_lrt(x, 1, key=0, n_replications=9, starts=short).p_value
        0.1

    Source: McLachlan (1987), J. R. Statist. Soc. C 36.
    """
    if starts.n_init is None and starts.initial is None:
        starts = replace(starts, n_init=SEARCHES)
    k, count = check_count(k, "k"), check_count(n_replications, "n_replications")
    fitted, draws, search = jax.random.split(check_key(key), 3)
    first = fit(x, k, key=fitted, family=family, covariance=covariance)
    _go_on(first)
    null = first.mixture
    check_drawable(null)
    n = len(jax.tree.leaves(rows_for(null, x))[0])
    keys = jax.random.split(draws, count)
    samples = jax.device_get(jax.vmap(lambda one: null.sample(one, n))(keys))
    tables = [x, *(index(samples, i) for i in range(count))]

    def fits(components: int) -> Batch:
        with warnings.catch_warnings():
            # of samples: what they end as is part of the law of the ratio
            warnings.simplefilter("ignore", ConvergenceWarning)
            batch = fit_batch(
                tables, components, key=search, family=family, covariance=covariance, starts=starts
            )
        _go_on(batch)
        return batch

    fewer, more = fits(k), fits(k + 1)
    for batch in (fewer, more):
        own = Status(int(batch.status[0]))
        if not own.healthy:
            number = batch.mixture.log_weights.shape[1]
            message = f"the fit of {number} components to the rows is {own.name}: {own.remedy}"
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
    per_row = (np.asarray(b.solution.negative_log_likelihood, float) for b in (fewer, more))
    ratio = 2 * n * np.subtract(*per_row)
    counted = ratio[1:][np.isfinite(ratio[1:])]
    p_value = (1 + np.sum(counted >= ratio[0])) / (1 + len(counted))
    return RatioTest(float(ratio[0]), float(p_value), ratio[1:], fewer[0], more[0])


def _go_on(answer: Solution | Batch) -> None:
    """Passes a Ctrl-C on that a fit took for a request: a part of the fits is no test."""
    if (np.asarray(answer.status) == Status.INTERRUPTED).any():
        raise KeyboardInterrupt
