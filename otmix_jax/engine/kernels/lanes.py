"""Many small problems side by side: with the batch axis last, each runs at vector speed.

`vmap` puts the batch axis first, so that inner loops run over the few components or features of a
problem. Here they run over the problems. A rule for `vmap` has no reverse mode: the engine of a
run that is never backpropagated (`lax.while_loop` has none either) may use it, no other.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from ..._numerics import matmul
from ..._pytree import pytree
from ..._rows import row_softmax
from ...families.base import Family
from ...families.natural import NaturalForm
from ..sweep import Columns, Sweep
from .base import weighted_value
from .moment import Moment, MomentReady, natural_form

MOST_PRODUCTS = 128
"""Components times features up to which sums are written out entry by entry."""


def _one(form: NaturalForm, log_weights: Array, x: Array, row_weight: Array) -> tuple[Array, Array]:
    """Value and sums of one problem, at epsilon = 1 and g = 0."""
    features = form.features(x)
    f, conditional = row_softmax(-matmul(features, form.coefficients.T), log_weights)
    value = weighted_value(row_weight, f + form.shared(x))
    return value, matmul((row_weight[:, None] * conditional).T, features)


_sweep = jax.custom_batching.custom_vmap(_one)


def fits(form: NaturalForm) -> bool:
    """Whether the sums of a family of this form are few enough to be written out."""
    return form.coefficients.size <= MOST_PRODUCTS


def _last(leaf: Array, batched: bool) -> Array:
    """The batch axis last; of length 1 where there is none."""
    return jnp.moveaxis(leaf, 0, -1) if batched else leaf[..., None]


@_sweep.def_vmap
def _many(
    axis_size: int, in_batched: list, form: NaturalForm, log_weights: Array, x: Array, a: Array
) -> tuple[tuple[Array, Array], tuple[bool, bool]]:
    """The same with the batch axis last: features act on the first two axes alone.

    Rows are finite and in range, so that a sum of exponentials relative to their peak is >= 1.
    """
    del axis_size
    axes = jax.tree.map(lambda batched: 0 if batched else None, (in_batched[0], in_batched[2]))
    shared = jax.vmap(lambda form, x: form.shared(x) + jnp.zeros(len(x), x.dtype), axes)(form, x)
    form, log_weights, x, a = jax.tree.map(_last, (form, log_weights, x, a), tuple(in_batched))
    k, count = form.coefficients.shape[:2]
    # An absent component may hold anything.
    eta = jnp.where(log_weights[:, None] > -jnp.inf, form.coefficients, 0)
    features = form.features(x)
    t = [features[:, i] for i in range(count)]
    logits = [log_weights[j] + _dot(t, eta[j]) for j in range(k)]
    peak = functools.reduce(jnp.maximum, logits)
    scaled = [jnp.exp(logit - peak) for logit in logits]
    total = functools.reduce(jnp.add, scaled)
    share = a / total
    sums = [[jnp.sum(share * e * t[i], axis=0) for i in range(count)] for e in scaled]
    value = jnp.sum(a * (shared.T - peak - jnp.log(total)), axis=0)
    return (value, jnp.stack([jnp.stack(row, -1) for row in sums], -2)), (True, True)


def _dot(t: list[Array], eta: Array) -> Array:
    return functools.reduce(jnp.add, [t[i] * eta[i] for i in range(len(t))])


@pytree
class LanesReady(MomentReady):
    """As `MomentReady`, with a sweep that is batched with the problems innermost."""

    columns: Columns
    form: NaturalForm

    def sweep(self, x: Array, row_weight: Array) -> Sweep:
        """See `Ready.sweep`."""
        columns, form = self.columns, self.form
        plain = columns.epsilon is None and columns.g is None
        if not plain:
            return super().sweep(x, row_weight)
        value, sums = _sweep(form, columns.log_weights, x, row_weight)
        statistics = form.statistics(sums, form.total(x, row_weight))
        return Sweep(value, sums[:, 0], statistics)


@pytree
class Lanes(Moment):
    """`Moment` for many small problems under `vmap`; forward only."""

    def ready(self, columns: Columns, components: Family) -> LanesReady:
        """See `Kernel.ready`."""
        return LanesReady(columns, natural_form(components))
