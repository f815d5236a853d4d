"""scikit-learn's `reg_covar`: a number that is added to the diagonal in every M-step."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from ..core.status import Status
from ..core.tree import pytree, replace
from ..model import Evaluation, Mixture, Objective
from ..solvers import EM, Solver
from ..solvers.em import EMState


def loaded(evaluation: Evaluation, components: Any, reg_covar: Array | float) -> Evaluation:
    """The evaluation whose M-step has `reg_covar` more in each variance.

    Each component holds d pseudo-rows, one along each axis, without mass of their own: its scatter
    grows by mass_j * reg_covar * I, in whatever layout that is kept.
    """
    statistics, k, d = evaluation.statistics, components.n_components, components.n_features
    axes = jnp.sqrt(jnp.asarray(reg_covar, evaluation.mass.dtype)) * jnp.eye(d)[:, None, :]
    axes = jnp.broadcast_to(axes, (d, k, d)).astype(evaluation.mass.dtype)
    extra = components.covariance.geometry.scatter(axes, jnp.broadcast_to(evaluation.mass, (d, k)))
    return replace(evaluation, statistics=replace(statistics, second=statistics.second + extra))


def _finished(mixture: Mixture) -> Array:
    """How the run ended says all: a component without mass is no failure to scikit-learn."""
    del mixture
    return jnp.asarray(int(Status.CONVERGED))


@pytree
class LoadedEM(EM):
    """EM as scikit-learn's GaussianMixture has it.

    Its M-step is that of rows blurred by N(0, reg_covar I), its E-step is not, so the likelihood
    may fall a little: a step's size is what it changed of it, up or down.

    Attributes:
        reg_covar: what is added to each variance, in squared units of the rows.
        before: the objective before the start, of a warm one; infinity of another.
    """

    reg_covar: Array | float = 0.0
    before: Array | float = float("inf")
    ending = staticmethod(_finished)

    def accept(
        self, objective: Objective, state: EMState, mixture: Mixture, evaluation: Evaluation
    ) -> EMState:
        """EM's, with the change of the objective as the step's size."""
        new = super().accept(objective, state, mixture, evaluation)
        old = state.progress.objective
        old = jnp.where(jnp.isinf(old), jnp.asarray(self.before, old.dtype), old)
        change = jnp.abs(new.progress.objective - old)
        return replace(new, progress=replace(new.progress, decrease=change))

    def proposal(self, objective: Objective, mixture: Mixture, evaluation: Evaluation) -> Mixture:
        """EM's, with `reg_covar` on the diagonals."""
        more = loaded(evaluation, mixture.components, self.reg_covar)
        return super().proposal(objective, mixture, more)


def with_loading(solver: Solver, reg_covar: float, before: float) -> Solver:
    """The solver with such an EM in the place of its own, wherever it has one."""
    if type(solver) is EM:
        return LoadedEM(reg_covar, before)
    inner = getattr(solver, "inner", None)
    return (
        solver if inner is None else replace(solver, inner=with_loading(inner, reg_covar, before))
    )
