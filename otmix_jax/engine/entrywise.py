"""Few components and features: sums written out, so that every loop runs over the rows.

Products of a few columns leave a processor idle, the more so one by one under `vmap`. Here each
entry of a difference, of the plan and of a moment is a vector over rows, and many small problems
side by side are the same loops over more of them.
"""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from ..core.numerics import accurate_sum, opened
from ..core.tree import along, pytree
from ..families.family import Family
from ..families.forms import LocationForm
from .kernels import Columns, Kernel, Reference, Sweep, weighted_value

MOST_ENTRIES = 128
"""Entries of all whitening matrices up to which sums are written out one by one."""
SMALL = 1024
"""Rows that one plain loop may sum."""


@pytree
class Entrywise(Kernel):
    """`Reference` for few components and features, as safe as it is: no square is expanded.

    At other epsilons, under potentials, and for the plan itself it is `reference`.
    """

    reference: Reference
    form: LocationForm

    @classmethod
    def of(cls, columns: Columns, components: Family) -> "Entrywise":
        """See `Kernel.of`.

        Raises:
            TypeError: for a family without a location form.
        """
        form = components.location_form()
        if form is None:
            raise TypeError(f"{type(components).__name__} has no location form: use Reference")
        present = columns.log_weights > -jnp.inf  # an absent component may hold anything
        form = jax.tree.map(lambda leaf: jnp.where(along(present, leaf), leaf, 0), form)
        return cls(Reference.of(columns, components), form)

    @classmethod
    def numbers_per_row(cls, components: Family) -> int:
        """The reference kernel's."""
        return Reference.numbers_per_row(components)

    @property
    def columns(self) -> Columns:  # type: ignore[override]
        """The reference kernel's."""
        return self.reference.columns

    def rows(self, x: Array) -> tuple[Array, Array]:
        """See `Kernel.rows`."""
        return self.reference.rows(x)

    def potential(self, x: Array) -> Array:
        """See `Kernel.potential`."""
        if not self._plain:
            return self.reference.potential(x)
        return self._softmax(x, self._differences(x))[0]

    def sweep(self, x: Array, row_weight: Array) -> Sweep:
        """See `Kernel.sweep`."""
        if not self._plain:
            return self.reference.sweep(x, row_weight)
        u = self._differences(x)
        f, scaled, total = self._softmax(x, u)
        share = row_weight / total
        moments = [_moments(share * s, entries) for s, entries in zip(scaled, u, strict=True)]
        mass, first, second = (jnp.stack(leaves) for leaves in zip(*moments, strict=True))
        statistics = self.reference.components.location_statistics(mass, first, second)
        return Sweep(weighted_value(row_weight, f), mass, statistics)

    @property
    def _plain(self) -> bool:
        return self.columns.epsilon is None and self.columns.g is None

    def _differences(self, x: Array) -> list[list[Array]]:
        """Entries [t] of x - p_j."""
        k, d = self.form.pivot.shape
        return [[x[:, i] - self.form.pivot[j, i] for i in range(d)] for j in range(k)]

    def _softmax(self, x: Array, u: list[list[Array]]) -> tuple[Array, tuple[Array, ...], Array]:
        """Row potential; the conditional plan's columns times a sum; and this sum [t], not 0."""
        form, log_weights = self.form, self.columns.log_weights
        offset = log_weights - form.constant
        logits = [
            offset[j] - 0.5 * _square_norm(form.whitening[j], entries)
            for j, entries in enumerate(u)
        ]
        # it cancels, so it needs no derivative
        peak = jax.lax.stop_gradient(functools.reduce(jnp.maximum, logits))
        lost = peak == -jnp.inf  # out of reach of every component: the plan follows pi
        base = jnp.where(lost, 0, peak)
        scaled = [
            jnp.exp(jnp.where(lost, log_weights[j], logit - base)) for j, logit in enumerate(logits)
        ]
        # not masked as the form is: the reference kernel's cost knows absent components too
        scaled = opened(tuple(scaled), log_weights, base, Partial(_scores, self.reference.cost, x))
        total = _added(scaled)
        # 0 only where no component is present at all: `sweep` divides by it
        total = jnp.where(total == 0, 1, total)
        return jnp.where(lost, jnp.inf, -jnp.log(total) - base), scaled, total


def _scores(cost: Any, x: Array) -> Array:
    return -cost(x)


def _added(terms: list[Array] | tuple[Array, ...]) -> Array:
    return functools.reduce(operator.add, terms)


def _square_norm(whitening: Array, u: list[Array]) -> Array:
    rows = [_added([whitening[i, m] * u[m] for m in range(i + 1)]) for i in range(len(u))]
    return _added([row**2 for row in rows])


def _moments(mass: Array, u: list[Array]) -> tuple[Array, Array, Array]:
    """Sums over rows of mass, of mass u, and of mass u u^T."""
    d = len(u)
    weighted = [mass * entry for entry in u]
    pairs = [(i, m) for i in range(d) for m in range(i + 1)]
    total, *rest = _sums(mass, *weighted, *[weighted[i] * u[m] for i, m in pairs])
    half = dict(zip(pairs, rest[d:], strict=True))
    second = [[half[max(i, m), min(i, m)] for m in range(d)] for i in range(d)]
    return total, jnp.stack(rest[:d]), jnp.array(second)


@jax.custom_jvp
def _sums(*vectors: Array) -> tuple[Array, ...]:
    """The sum of each, in one loop: summed one by one, each would be written out first.

    That loop adds row after row, which in float32 only so many rows may.
    """
    if len(vectors[0]) > SMALL:
        return tuple(map(accurate_sum, vectors))
    zeros = tuple(jnp.zeros((), vector.dtype) for vector in vectors)
    return tuple(jax.lax.reduce(vectors, zeros, lambda a, b: tuple(map(operator.add, a, b)), (0,)))


@_sums.defjvp
def _(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Any, Any]:
    """As sums one by one: JAX derives a reduction of several arrays by slicing them in halves."""
    return _sums(*primals), tuple(map(accurate_sum, tangents))


def fits(components: Family) -> bool:
    """Whether the family's sums are few enough to be written out."""
    form = components.location_form()
    return form is not None and form.whitening.size <= MOST_ENTRIES
