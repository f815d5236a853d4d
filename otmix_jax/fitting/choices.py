"""What a choice of model returns: every candidate, and the best."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from ..core.display import escaped, harmless, optional, page, status_line, table
from ..core.files import Saved
from ..core.registry import storable
from ..core.status import Status
from ..core.tree import shape_of
from ..families import Description, Gaussian
from ..model import Mixture, RunCertificate, Solution
from .one_column import model

CRITERIA = ("bic", "aic", "icl", "cross_validation")


@storable
@dataclasses.dataclass(frozen=True)
class Candidate:
    """One model that was tried. All criteria are such that lower is better.

    Attributes:
        family: what the components are.
        n_components: K.
        log_likelihood: total, in nats.
        n_parameters: free parameters: what was learned.
        aic: -2 log-likelihood + 2 parameters.
        bic: -2 log-likelihood + parameters log n, scikit-learn's sign; mclust prints its negative.
        icl: BIC - 2 sum_i w_i log max_j P(j | x_i), the cost of rows that lie between components.
        cross_validation: mean negative log-likelihood of held-out rows, in nats per row; NaN
            unless it was asked for.
        status: how the run that was kept ended.
        seconds: its share, by steps, of the time that its family's one computation took.
        start_values: the objective, in nats per row, that each start reached; of a race, each that
            went on after the sprint, before the last polish.
        solution: the fit, in the units of the rows.
    """

    family: Description
    n_components: int
    log_likelihood: float
    n_parameters: int
    aic: float
    bic: float
    icl: float
    cross_validation: float
    status: Status
    seconds: float
    start_values: tuple[float, ...]
    solution: Solution

    @property
    def covariance(self) -> str:
        """The Gaussian's covariance structure by name; of other families, the family."""
        structure = dict(self.family.options).get("covariance")
        if not issubclass(self.family.family, Gaussian) or structure is None:
            return str(self.family)
        return getattr(structure, "__name__", str(structure))

    @property
    def healthy(self) -> bool:
        """Whether it can be chosen: all its components hold rows and are regular.

        One that nobody came to before a stop is INTERRUPTED, and has no likelihood.
        """
        return self.status.healthy and not math.isnan(self.log_likelihood)


def candidate(
    family: Description,
    solution: Solution,
    total: float,
    overlap: float,
    held: float,
    seconds: float,
    start_values: Any,
) -> Candidate:
    """A candidate with its criteria.

    Args:
        family: what the components are.
        solution: the fit.
        total: of the weights: the n of the criteria.
        overlap: mean log max_j P(j | x_i).
        held: mean negative log-likelihood of held-out rows, or NaN.
        seconds: see `Candidate`.
        start_values: see `Candidate`.
    """
    likelihood = -total * float(solution.negative_log_likelihood)
    parameters = solution.n_parameters
    bic = float(-2 * likelihood + parameters * math.log(total))
    return Candidate(
        family,
        solution.mixture.n_components,
        likelihood,
        parameters,
        -2 * likelihood + 2 * parameters,
        bic,
        float(bic - 2 * total * overlap),
        float(held),
        Status(int(solution.status)),
        float(seconds),
        tuple(start_values),
        solution,
    )


def unfitted(family: Description, rows: PyTree, n_components: int, total: float) -> Candidate:
    """A candidate that nobody came to before a stop: NaN, and INTERRUPTED."""
    plan = shape_of((len(jax.tree.leaves(rows)[0]), n_components), float)
    shapes = jax.tree.map(lambda leaf: shape_of(leaf.shape, leaf.dtype), rows)

    def blank(shape: Any) -> Array:
        real = jnp.issubdtype(shape.dtype, jnp.inexact)
        return jnp.full(shape.shape, jnp.nan if real else 0, shape.dtype)

    components = jax.tree.map(blank, jax.eval_shape(family.initial, shapes, plan))
    none = jnp.asarray(jnp.nan)
    spurious = jnp.zeros(n_components, bool)
    solution = Solution(
        Mixture(jnp.full(n_components, jnp.nan), components),
        none,
        none,
        none,
        RunCertificate(none, none, none, none, spurious),
        jnp.asarray(Status.INTERRUPTED.code),
        jnp.asarray(0, jnp.int32),
        none[None],
    )
    return candidate(family, solution, total, math.nan, math.nan, 0.0, ())


@storable
@dataclasses.dataclass(frozen=True)
class Choice(Saved):
    """Candidates, and the criterion that decides between them.

    Attributes:
        candidates: all of them, in the order they were asked for.
        criterion: "bic", "aic", "icl" or "cross_validation".
    """

    candidates: tuple[Candidate, ...]
    criterion: str

    @harmless
    def __repr__(self) -> str:
        best = self.best_candidate
        return (
            f"Choice({best.n_components} x {best.covariance}, best of {len(self.candidates)} by "
            f"{self.criterion}={getattr(best, self.criterion):.6g})"
        )

    @optional
    def _repr_html_(self) -> str:
        best = self.best_candidate
        head = ["components", "K", "log-likelihood", "parameters", self.criterion, "status"]
        rows = [
            [
                escaped(one.covariance) + (" <b>(best)</b>" if one is best else ""),
                str(one.n_components),
                f"{one.log_likelihood:.2f}",
                str(one.n_parameters),
                f"{getattr(one, self.criterion):.2f}",
                status_line(one.status),
            ]
            for one in sorted(self.candidates, key=self.score)
        ]
        return page(repr(self), table(head, rows))

    def score(self, candidate: Candidate) -> float:
        """The criterion of a candidate; lower is better, infinite if it failed."""
        value = getattr(candidate, self.criterion)
        return value if candidate.healthy and not math.isnan(value) else float("inf")

    @property
    def best_candidate(self) -> Candidate:
        """The candidate of the lowest criterion among those that did not fail."""
        return min(self.candidates, key=self.score)

    @property
    def best(self) -> Solution:
        """Its solution."""
        return self.best_candidate.solution

    @property
    def table(self) -> list[dict[str, Any]]:
        """One record for each candidate, all but its solution; a data frame takes it as it is."""
        hidden = ("family", "solution", "start_values")
        names = [f.name for f in dataclasses.fields(Candidate) if f.name not in hidden]
        names = ["covariance", *names]
        records = [{name: getattr(one, name) for name in names} for one in self.candidates]
        return [{**record, "status": record["status"].name} for record in records]

    def __str__(self) -> str:
        width = max(10, *(len(one.covariance) for one in self.candidates))
        head = (
            f"{'covariance':>{width}} {'K':>3} {'log-lik.':>12} {'par.':>5} "
            f"{self.criterion:>14}  status"
        )
        best = self.best_candidate
        lines = [
            f"{one.covariance:>{width}} {one.n_components:>3} {one.log_likelihood:>12.4f} "
            f"{one.n_parameters:>5} {getattr(one, self.criterion):>14.4f}  "
            f"{one.status.name}{' <- best' if one is best else ''}"
            for one in self.candidates
        ]
        return "\n".join([head, *lines, *self._equal()])

    def _equal(self) -> list[str]:
        """Lines that say which candidates are one model, if any."""
        in_one = [one for one in self.candidates if issubclass(one.family.family, Gaussian)]
        alike: dict[Any, dict[str, None]] = {}
        for one in in_one:
            if one.solution.mixture.components.n_features == 1:
                alike.setdefault(model(one.family), {})[one.covariance] = None
        return [
            f"in one column {' and '.join(names)} are the same model"
            for names in alike.values()
            if len(names) > 1
        ]
