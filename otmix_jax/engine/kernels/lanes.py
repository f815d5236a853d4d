"""Many small problems side by side: with the batch axis last, each runs at vector speed.

`vmap` puts the batch axis first, so that inner loops run over the few components and features of
a problem. Here they run over the problems, and differences are whitened entry by entry, which is
as safe as the reference kernel. A rule for `vmap` has no reverse mode: only a run that is never
backpropagated (`lax.while_loop` has no reverse mode either) may use it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..._pytree import pytree
from ..._rows import row_softmax
from ...families.base import Family
from ...families.natural import LocationForm
from ..sweep import Columns, Sweep
from .base import Kernel, weighted_value
from .reference import Reference, ReferenceReady

MOST_ENTRIES = 128
"""Entries of all whitening matrices up to which sums are written out one by one."""


def _one(
    form: LocationForm, log_weights: Array, x: Array, row_weight: Array
) -> tuple[Array, Array, Array, Array]:
    """Value, mass, first and second moments about the pivots, at epsilon = 1 and g = 0."""
    u = x[:, None, :] - form.pivot
    whitened = jnp.sum(form.whitening * u[:, :, None, :], axis=-1)
    cost = 0.5 * jnp.sum(whitened**2, axis=-1) + form.constant
    f, conditional = row_softmax(cost, log_weights)
    plan = row_weight[:, None] * conditional
    weighted = plan[..., None] * u
    second = jnp.sum(weighted[..., None] * u[:, :, None, :], axis=0)
    value = weighted_value(row_weight, f)
    return value, jnp.sum(plan, axis=0), jnp.sum(weighted, axis=0), second


_sweep = jax.custom_batching.custom_vmap(_one)


def _last(leaf: Array, batched: bool) -> Array:
    """The batch axis last; of length 1 where there is none."""
    return jnp.moveaxis(leaf, 0, -1) if batched else leaf[..., None]


@_sweep.def_vmap
def _many(
    axis_size: int, in_batched: list, form: LocationForm, log_weights: Array, x: Array, a: Array
) -> tuple[tuple[Array, Array, Array, Array], tuple[bool, bool, bool, bool]]:
    """The same, entry by entry: every array is [n, batch] or [batch]."""
    del axis_size
    form, log_weights, x, a = jax.tree.map(_last, (form, log_weights, x, a), tuple(in_batched))
    k, d = form.pivot.shape[:2]
    present = log_weights > -jnp.inf  # an absent component may hold anything
    form = jax.tree.map(lambda leaf: jnp.where(_like(present, leaf), leaf, 0), form)
    u = [[x[:, i] - form.pivot[j, i] for i in range(d)] for j in range(k)]
    # A row out of reach of every component gets some finite plan, and an infinite potential.
    farthest = float(jnp.finfo(x.dtype).max) / 4
    logits = [
        log_weights[j]
        - jnp.minimum(form.constant[j] + 0.5 * _square_norm(form.whitening[j], u[j]), farthest)
        for j in range(k)
    ]
    # Relative to the peak the sum is >= 1, unless every component is absent.
    peak = jnp.maximum(functools.reduce(jnp.maximum, logits), -2 * farthest)
    scaled = [jnp.exp(logit - peak) for logit in logits]
    total = jnp.maximum(functools.reduce(jnp.add, scaled), 0.5)
    share = a / total
    moments = [_moments(share * scaled[j], u[j]) for j in range(k)]
    f = -jnp.log(total) - peak
    lost = f > farthest / 2
    value = jnp.sum(jnp.where(lost & (a == 0), 0, a * jnp.where(lost, jnp.inf, f)), axis=0)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *moments)
    mass, first, second = (jnp.moveaxis(leaf, -1, 0) for leaf in stacked)
    return (value, mass, first, second), (True, True, True, True)


def _like(present: Array, leaf: Array) -> Array:
    return present.reshape(present.shape[0], *(1,) * (leaf.ndim - 2), present.shape[-1])


def _square_norm(whitening: Array, u: list[Array]) -> Array:
    rows = [
        functools.reduce(jnp.add, [whitening[i, m] * u[m] for m in range(i + 1)])
        for i in range(len(u))
    ]
    return functools.reduce(jnp.add, [row**2 for row in rows])


def _moments(mass: Array, u: list[Array]) -> tuple[Array, Array, Array]:
    d = len(u)
    weighted = [mass * entry for entry in u]
    first = [jnp.sum(entry, axis=0) for entry in weighted]
    half = {(i, m): jnp.sum(weighted[i] * u[m], axis=0) for i in range(d) for m in range(i + 1)}
    second = [jnp.stack([half[max(i, m), min(i, m)] for m in range(d)]) for i in range(d)]
    return jnp.sum(mass, axis=0), jnp.stack(first), jnp.stack(second)


@pytree
class LanesReady(ReferenceReady):
    """As `ReferenceReady`, with a sweep that is batched with the problems innermost."""

    columns: Columns
    components: Any
    form: LocationForm

    def sweep(self, x: Array, row_weight: Array) -> Sweep:
        """See `Ready.sweep`."""
        columns = self.columns
        if columns.epsilon is not None or columns.g is not None:
            return super().sweep(x, row_weight)
        value, mass, *moments = _sweep(self.form, columns.log_weights, x, row_weight)
        return Sweep(value, mass, self.components.location_statistics(*moments))


@pytree
class Lanes(Kernel):
    """`Reference` for many small problems under `vmap`; its sweep is forward only."""

    def ready(self, columns: Columns, components: Family) -> LanesReady:
        """See `Kernel.ready`.

        Raises:
            TypeError: for a family without a location form.
        """
        form = components.location_form()
        if form is None:
            raise TypeError(f"{type(components).__name__} has no location form: use Reference")
        return LanesReady(columns, components, form)

    def numbers_per_row(self, components: Family) -> int:
        """The reference kernel's."""
        return Reference().numbers_per_row(components)


def fits(components: Family) -> bool:
    """Whether the family's sums are few enough to be written out."""
    form = components.location_form()
    return form is not None and form.whitening.size <= MOST_ENTRIES
