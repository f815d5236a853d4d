"""The host edge of variational fits: checks, frames the rows, runs starts, keeps the best."""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray

from ..core.status import Status
from ..core.tree import cast, index
from ..engine import Engine
from ..families.coordinates import Frame
from ..fitting import ConvergenceWarning, FitError, edge
from ..fitting.options import Goal, Starts
from ..fitting.programs import Program, best_start, first_mixture, frame_of, framed, start_keys
from ..initializers import kmeans
from ..model import Mixture, Problem
from ..solvers import Limits
from .belief import Bound
from .descent import run
from .law import ConjugatePrior, check_positive
from .proportions import StickBreakingPrior
from .solution import VariationalSolution
from .solving import first_belief, prior_belief, settled_priors

N_INIT = 4
"""Starts where none is asked for."""


def fit_variational(
    x: Any,
    n_components: int,
    *,
    key: PRNGKeyArray | int,
    family: Any = None,
    covariance: Any = None,
    weights: Any = "dirichlet_process",
    prior: ConjugatePrior | None = None,
    sample_weight: Any = None,
    missing: str | None = None,
    starts: Starts = Starts(),
    limits: Limits = Limits(),
    engine: Engine | None = None,
) -> VariationalSolution:
    """Fits a mixture with posteriors for its parameters, by raising the evidence lower bound.

    Components that the rows do not need stay empty: give more than there may be, and count those
    that hold rows. With the same start, prior and number of steps it is scikit-learn's
    `BayesianGaussianMixture` at `reg_covar=0` (docs/variational.md).

    Args:
        x: [n, d] rows, as for `fit`.
        n_components: K, at most the number of rows with weight.
        key: a typed PRNG key, or an integer seed.
        family: "gaussian" (None), "poisson", "bernoulli" or "categorical", or its description.
        covariance: the shorthand for `Gaussian.of(covariance)`: "full" (the default), "tied",
            "diagonal" or "spherical": what shape the posterior of the precisions may have.
        weights: "dirichlet_process" or "dirichlet", of concentration 1 / K; or a
            `variational.StickBreakingPrior` or `variational.DirichletPrior`.
        prior: of the components, in the units of `x`: a `variational.NormalWishartPrior`,
            `GammaPrior`, `BetaPrior` or `LevelsPrior`. None leaves it to the rows.
        sample_weight: [n] weights >= 0 that count rows, so that their unit matters: 0 leaves a row
            out, 2 counts it twice.
        missing: "ignore" integrates NaN out; not for Gaussians.
        starts: how many, from where; see `Starts`. By default 4 from k-means. `initial` is a
            mixture.
        limits: when to stop; see `solvers.Limits`.
        engine: how a pass over the rows is made; None chooses by shape.

    Returns:
        The `VariationalSolution` of the highest bound, in the units of `x`.

    Raises:
        ValueError: for input that cannot be fitted; the message names the argument and the row.
        TypeError: for a traced `x`, a family or structure without a conjugate law, and a prior of
            another.
        FitError: if every start left the finite numbers.

    Warns:
        ConvergenceWarning: for any other status than CONVERGED, with its remedy.

    Example:
        >>> import otmix_jax as om
        >>> fit = om.fit_variational(om.datasets.old_faithful().x, 6, key=0)
        >>> int(fit.effective_components), round(float(fit.lower_bound), 1)
        (2, -1...)

    Source: Bishop (2006), section 10.2; Blei and Jordan (2006), Bayesian Analysis 1.
    """
    initial, n_init = starts.initial, _n_init(starts)
    described = edge.check_family(family, covariance, initial, n_components, missing)
    rows, row_weights = edge.check_data(x, sample_weight, described, initial=initial)
    described = edge.settled(described, rows, row_weights)
    length = len(jax.tree.leaves(rows)[0])
    k = edge.check_components(n_components, row_weights, length)
    on_weights, on_components = settled_priors(described, weights, prior)
    if on_weights.concentration is not None:
        check_positive(on_weights.concentration, "concentration")
    on_components.check(described, jax.tree.leaves(rows)[0].shape[-1])
    count = float(length if row_weights is None else np.sum(np.asarray(sample_weight, float)))
    frame = frame_of(rows, row_weights, described)
    problem = framed(rows, row_weights, Goal(), frame).checked()
    if initial is not None:
        initial = cast(initial.out_of(frame.inverse), problem.dtype)
    program = Program(described, starts.initializer or kmeans, k, n_init, "")
    priors = on_weights, on_components.into(frame)
    told = problem, edge.check_key(key), priors, count, edge.check_limits(limits), engine
    solution = _best_of_starts(program, *told, initial, frame)
    _report(solution)
    return solution


def _n_init(starts: Starts) -> int:
    if starts.initial is not None:
        return 1
    return N_INIT if starts.n_init is None else edge.check_count(starts.n_init, "n_init")


@functools.partial(jax.jit, static_argnums=0)
def _best_of_starts(
    program: Program,
    problem: Problem,
    key: PRNGKeyArray,
    priors: tuple[Any, Any],
    count: Array | float,
    limits: Limits,
    engine: Engine | None,
    initial: Mixture | None,
    frame: Frame,
) -> VariationalSolution:
    """Starts one by one, of which the highest bound is kept."""
    count = jnp.asarray(count, problem.dtype)
    priors = cast(priors, problem.dtype)
    believed = prior_belief(problem, program.n_components, program.family, *priors, count)
    bound = Bound.on(problem, believed, count, engine)

    def run_one(start_key: PRNGKeyArray) -> VariationalSolution:
        if initial is not None:
            return run(bound, first_belief(bound, initial), limits)
        first = cast(first_mixture(program, start_key, problem), problem.dtype)
        if isinstance(priors[0], StickBreakingPrior):
            # sticks come by size: another order is another, lower bound
            first = first.take(jnp.argsort(-first.log_weights))
        return run(bound, first_belief(bound, first), limits)

    solutions = jax.lax.map(run_one, start_keys(key, program.n_init))
    best = index(solutions, best_start(solutions))
    return best.out_of(cast(frame, problem.dtype))


def _report(solution: VariationalSolution) -> None:
    status = Status(int(solution.status))
    if status == Status.CONVERGED:
        return
    if status > Status.STALLED:
        raise FitError(
            f"{status.name} in every start. The prior, or the rows' covariance that stands for it, "
            "may be singular: give prior=NormalWishartPrior(spread=...), or leave out columns that "
            "are constant or follow from others.",
            solution,
        )
    message = f"{status.name} after {int(solution.n_steps)} steps. {status.remedy}"
    # 3: the warning names the line that called `fit_variational`
    warnings.warn(message, ConvergenceWarning, stacklevel=3)
