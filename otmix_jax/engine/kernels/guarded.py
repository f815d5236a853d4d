"""The fast kernel where it keeps the digits, the safe one where it would not."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from ..._pytree import pytree
from ...families.base import Family
from ..sweep import Columns, Sweep
from .base import Kernel, Ready, floats
from .moment import Moment, MomentReady, moment_ready, natural_form
from .reference import Reference

LOSS = {"float64": 1e-12, "float32": 1e-5}
"""What a cost may lose to cancellation per feature of x, in nats, by dtype."""


def largest_amplification(dtype: DTypeLike) -> float:
    """The amplification up to which the fast kernel is used."""
    return LOSS.get(jnp.dtype(dtype).name, 1e-2) / float(jnp.finfo(dtype).eps)


@jax.custom_batching.custom_vmap
def _everywhere(safe: Array) -> Array:
    """Whether all lanes of a batch may take the fast kernel: one answer for all of them.

    A predicate per lane would turn `lax.cond` into both branches.
    """
    return safe


@_everywhere.def_vmap
def _(axis_size: int, in_batched: list, safe: Array) -> tuple[Array, bool]:
    del axis_size
    return (_everywhere(jnp.all(safe, axis=0)) if in_batched[0] else safe), False


@pytree
class GuardedReady(Ready):
    """Both kernels, and which one keeps the digits."""

    fast_is_safe: Array
    fast: MomentReady
    safe: Ready

    def _choose(self, function: Callable[..., Any], x: Array, *others: Array) -> Any:
        return self._either(
            lambda fast, safe, *rows: function(fast, *rows),
            lambda fast, safe, *rows: function(safe, *rows),
            x,
            *others,
        )

    def _either(self, if_fast: Callable, if_safe: Callable, x: Array, *others: Array) -> Any:
        reaches = _everywhere(self.fast.form.reaches(jax.lax.stop_gradient(x)))
        take_fast = self.fast_is_safe & reaches
        return jax.lax.cond(take_fast, if_fast, if_safe, self.fast, self.safe, x, *others)

    def rows(self, x: Array) -> tuple[Array, Array]:
        """See `Ready.rows`."""
        return self._choose(lambda kernel, x: kernel.rows(x), x)

    def potential(self, x: Array) -> Array:
        """See `Ready.potential`."""
        return self._choose(lambda kernel, x: kernel.potential(x), x)

    def sweep(self, x: Array, row_weight: Array) -> Sweep:
        """See `Ready.sweep`."""
        return self._choose(lambda kernel, x, a: kernel.sweep(x, a), x, row_weight)

    def slopes(self, x: Array, row_weight: Array, by_row: bool) -> tuple[Array, list, list]:
        """See `Ready.slopes`. Each kernel's derivative within its own branch.

        The derivative of a choice would hold what either kernel's needs, for every row.
        """

        def in_fast(fast: Ready, safe: Ready, x: Array, a: Array) -> tuple[Array, Any, Any]:
            value, slopes, in_rows = fast.slopes(x, a, by_row)
            return value, (slopes, jax.tree.map(jnp.zeros_like, floats(safe))), in_rows

        def in_safe(fast: Ready, safe: Ready, x: Array, a: Array) -> tuple[Array, Any, Any]:
            value, slopes, in_rows = safe.slopes(x, a, by_row)
            return value, (jax.tree.map(jnp.zeros_like, floats(fast)), slopes), in_rows

        value, (fast, safe), in_rows = self._either(in_fast, in_safe, x, row_weight)
        return value, [*fast, *safe], in_rows


@pytree
class Guarded(Kernel):
    """`Moment` where the parameters at hand let it lose no more than `LOSS`, else `Reference`.

    Decided anew at each pass, under jit; a batch under `vmap` decides as one.
    """

    def ready(self, columns: Columns, components: Family) -> GuardedReady:
        """See `Kernel.ready`."""
        form = natural_form(components)
        fast = moment_ready(columns, form)
        amplification = jax.lax.stop_gradient(form.amplification())
        safe = form.in_range() & (amplification <= largest_amplification(amplification.dtype))
        return GuardedReady(_everywhere(safe), fast, Reference().ready(columns, components))

    def numbers_per_row(self, components: Family) -> int:
        """The fast kernel's."""
        return Moment().numbers_per_row(components)
