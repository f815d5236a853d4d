"""Proportions on a fixed dictionary: the host edge."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from ..core.files import Saved
from ..core.reading import numbers
from ..core.status import Status
from ..core.tree import cast, pytree
from ..engine import choose, rows_of
from ..families.family import Family
from ..fitting import ConvergenceWarning, edge
from ..model import Mixture, Problem
from .dictionary import Dictionary
from .weights import weigh

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
"""In float32 the multipliers are known to about 1e-5."""


@pytree
class Proportions(Saved):
    """The most likely proportions of given components, and the proof.

    Attributes:
        weights: [K] proportions.
        components: those given; None where their log-likelihoods were.
        log_multipliers: [K] log D_j, Lindsay's function at the components, in nats: at the optimum
            at most 0, and 0 where there is weight.
        value: the mean negative log-likelihood, in nats per row.
        gap: log max_j D_j: no other proportions win more, in nats per row.
        n_passes: passes over all n times K likelihoods.
        status: integer; `Status(int(answer.status))` names it.
    """

    weights: Array
    components: Any
    log_multipliers: Array
    value: Array
    gap: Array
    n_passes: Array
    status: Array

    @property
    def mixture(self) -> Mixture:
        """The components in these proportions.

        Raises:
            TypeError: where no components were given.
        """
        if self.components is None:
            raise TypeError("a matrix of log-likelihoods has no components to make a mixture of")
        return Mixture.from_weights(self.weights, self.components)


def proportions(
    components: Any = None,
    x: Any = None,
    *,
    log_likelihood: Any = None,
    sample_weight: Any = None,
    tolerance: float | None = None,
    max_passes: int = 100,
) -> Proportions:
    """The proportions that maximise the likelihood, the components being what they are.

    A convex problem: entropic transport of the rows onto a fixed dictionary whose sizes are free.
    Where components are given, their likelihoods are computed tile by tile, and those of the
    working set alone are held (docs/proportions.md).

    Args:
        components: K components of any family; with it x.
        x: [n, d] rows, or a dict of columns as the family wants them. float32 rows are weighed in
            float32.
        log_likelihood: [n, K] log p(x_i given j), in nats, in the place of both; -inf is out of
            reach, and any constant may be added to a row.
        sample_weight: [n] weights >= 0; 0 leaves a row out, whatever it holds, 2 counts it twice.
        tolerance: the `gap` at which to stop, in nats per row. None is 1e-9, in float32 1e-4.
        max_passes: passes over all likelihoods at most.

    Raises:
        ValueError: for input that cannot be weighed, and for a row that no component reaches; the
            message names it.
        TypeError: for a traced input (under jit use `infinite.optimal_weights`), and for
            components that have proportions of their own.

    Warns:
        ConvergenceWarning: where the gap is not reached, with the remedy.

    Example:
        >>> import jax.numpy as jnp, otmix_jax as om
        >>> counts = jnp.array([[0.0], [0.0], [1.0], [7.0], [9.0]])
        >>> components = om.families.Poisson(jnp.array([[0.5], [2.0], [8.0]]))
        >>> om.proportions(components, counts).weights.round(2).tolist()
        [0.6, 0.0, 0.4]

    Source: Kim, Carbonetto, Stephens and Anitescu, J. Comput. Graph. Stat. 29 (2020).
    """
    if (log_likelihood is None) == (components is None) or (components is None) != (x is None):
        raise ValueError("give components and x, or log_likelihood=, an [n, K] matrix, alone")
    if log_likelihood is None:
        dictionary = _of_components(components, x, sample_weight)
    else:
        dictionary = _of_matrix(log_likelihood, sample_weight)
    dtype = dictionary.rows.weight.dtype
    limit = TOLERANCE[str(dtype)] if tolerance is None else tolerance
    limit = edge.check_number(limit, "tolerance")
    found = weigh(dictionary, None, limit, edge.check_count(max_passes, "max_passes"))
    _report(dictionary, Status(int(found.status)), float(found.gap), int(found.n_passes))
    return Proportions(
        found.weights, components, found.log_multipliers, found.value, found.gap, found.n_passes,
        found.status,
    )  # fmt: skip


def _of_components(components: Any, x: Any, sample_weight: Any) -> Dictionary:
    if not isinstance(components, Family):
        raise TypeError(f"components must be a family's, such as Poisson(rate), not {components!r}")
    if components.gated:
        raise TypeError(f"{type(components).__name__} has proportions of its own, by covariates")
    equal = jnp.full(components.n_components, 1 / components.n_components)
    mixture = Mixture.from_weights(equal, components)
    rows, weights = edge.check_data(x, sample_weight, components.described())
    problem = Problem(rows, weights).checked(mixture)
    components = cast(components, problem.dtype)
    engine = choose(components, problem.n_rows, problem.dtype)
    return Dictionary(problem.rows(), components, engine)


def _of_matrix(log_likelihood: Any, sample_weight: Any) -> Dictionary:
    if isinstance(log_likelihood, Tracer):
        raise TypeError("proportions cannot be traced: use otmix_jax.infinite.optimal_weights")
    found = numbers(log_likelihood, "log_likelihood", sample_weight)
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"log_likelihood must be [n, K], not of shape {found.shape}")
    weights = edge.check_sample_weight(sample_weight, found.shape[0])
    present = np.ones(found.shape[0], bool) if weights is None else weights > 0
    bad = np.asarray(jnp.isnan(found) | (jnp.asarray(found) == jnp.inf)) & present[:, None]
    if bad.any():
        row, column = map(int, np.argwhere(bad)[0])
        raise ValueError(
            f"log_likelihood has {found[row, column]} at row {row}, column {column}: it must be "
            "finite, or -inf where a component cannot yield the row"
        )
    found = jnp.asarray(found)
    found = found if jnp.issubdtype(found.dtype, jnp.floating) else found.astype(float)
    weight = Problem(found, weights).checked().row_weight
    return Dictionary.of_table(found, rows_of(found, weight, complete=weights is None))


def _report(dictionary: Dictionary, status: Status, gap: float, n_passes: int) -> None:
    """Refuses a dictionary that cannot explain a row; warns of a gap that is not reached."""
    if status == Status.CONVERGED:
        return
    k = dictionary.components.n_components
    if status == Status.NON_FINITE:
        equal = jnp.full(k, 1 / k, dictionary.rows.weight.dtype)
        lost = ~np.isfinite(dictionary.look(equal).f) & (np.asarray(dictionary.rows.weight) > 0)
        where = f"row {int(np.argmax(lost))}" if lost.any() else "some row"
        raise ValueError(
            f"none of the {k} components can yield {where} ({int(lost.sum())} such): add "
            "components, or leave it out by sample_weight"
        )
    remedy = status.remedy.replace("max_steps", "max_passes")
    text = f"{status.name} after {n_passes} passes, at a gap of {gap:.1e} nats per row. {remedy}"
    # 3: the warning names the line that called `proportions`
    warnings.warn(text, ConvergenceWarning, stacklevel=3)
