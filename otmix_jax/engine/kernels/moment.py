"""Two matrix products: T(x) eta^T before the softmax, P^T T(x) after it."""

import jax
from jax import Array

from ..._numerics import matmul
from ..._pytree import pytree
from ..._rows import row_softmax
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
    """Columns, and the family in natural parameters."""

    columns: Columns
    form: NaturalForm

    def _rows(self, x: Array, features: Array) -> tuple[Array, Array]:
        columns, form = self.columns, self.form
        cost = -matmul(features, form.coefficients.T)
        f, conditional = row_softmax(cost, columns.log_weights, columns.potentials, columns.epsilon)
        return f + form.shared(x), conditional

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
        return MomentReady(columns, natural_form(components))

    def numbers_per_row(self, components: Family) -> int:
        """The features, and three numbers per component."""
        form = jax.eval_shape(natural_form, components)
        return form.coefficients.shape[-1] + 3 * components.n_components
