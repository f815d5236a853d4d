"""Two matrix products: T(x) eta^T before the softmax, P^T T(x) after it."""

import jax
import jax.numpy as jnp
from jax import Array

from ..._numerics import matmul
from ..._pytree import pytree, replace
from ..._rows import row_softmax, soft_rows
from ...families.base import Family
from ...families.natural import NaturalForm
from ..sweep import Columns, Sweep
from .base import Kernel, Ready, weighted_value


def natural_form(components: Family) -> NaturalForm:
    """The family's natural form, which it must have."""
    form = components.natural()
    if form is None:
        raise TypeError(
            f"{type(components).__name__} has no natural form: use the Reference kernel"
        )
    return form


@pytree
class MomentReady(Ready):
    """Columns, and the family in natural parameters.

    Attributes:
        columns: what decides the plan besides the cost.
        form: the family. Its coefficients yield the logits log pi_j + g_j - c_ij, but for what all
            components share; only -c_ij where there is an epsilon to divide it by.
    """

    columns: Columns
    form: NaturalForm

    def _rows(self, x: Array, features: Array) -> tuple[Array, Array]:
        columns = self.columns
        linear = matmul(features, self.form.coefficients.T)
        if columns.epsilon is None:
            f, conditional = soft_rows(linear, columns.log_weights)
        else:
            f, conditional = row_softmax(
                -linear, columns.log_weights, columns.potentials, columns.epsilon
            )
        return f + self.form.shared(x), conditional

    def rows(self, x: Array) -> tuple[Array, Array]:
        """See `Ready.rows`."""
        return self._rows(x, self.form.features(x))

    def sweep(self, x: Array, row_weight: Array) -> Sweep:
        """See `Ready.sweep`."""
        features = self.form.features(x)
        f, conditional = self._rows(x, features)
        sums = matmul((row_weight[:, None] * conditional).T, features)
        statistics = self.form.statistics(sums, self.form.total(x, row_weight))
        return Sweep(weighted_value(row_weight, f), sums[:, 0], statistics)


def moment_ready(columns: Columns, form: NaturalForm) -> MomentReady:
    """The kernel for a family in its natural form."""
    if columns.epsilon is None:
        form = replace(form, coefficients=_in_logits(columns, form.coefficients))
    return MomentReady(columns, form)


def _in_logits(columns: Columns, coefficients: Array) -> Array:
    """Coefficients with log pi + g in the constant: one pass less over the logits of a tile.

    An absent component gets a constant that no exponential survives, but a finite one, since a
    product of split numbers makes NaN of an infinite one; unless none is present at all.
    """
    present = columns.log_weights > -jnp.inf
    lowest = jnp.where(jnp.any(present), 0.25 * jnp.finfo(coefficients.dtype).min, -jnp.inf)
    offset = jnp.where(present, columns.log_weights + columns.potentials, lowest)
    kept = jnp.where(present[:, None], coefficients, 0)  # an absent one may hold anything
    return kept.at[:, 0].add(offset)


@pytree
class Moment(Kernel):
    """For families with a natural form: half the work of `Reference`, all of it in products.

    Loses digits where means lie many standard deviations apart or columns correlate strongly: use
    `Guarded`, which knows when.
    """

    def ready(self, columns: Columns, components: Family) -> MomentReady:
        """See `Kernel.ready`.

        Raises:
            TypeError: for a family without a natural form.
        """
        return moment_ready(columns, natural_form(components))

    def numbers_per_row(self, components: Family) -> int:
        """The features, and three numbers per component."""
        form = jax.eval_shape(natural_form, components)
        return form.coefficients.shape[-1] + 3 * components.n_components
