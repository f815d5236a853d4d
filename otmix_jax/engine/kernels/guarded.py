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
from .base import Kernel, Ready
from .moment import Moment, MomentReady
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
        in_range = self.fast.form.in_range(*jax.lax.stop_gradient((x,)))
        return jax.lax.cond(
            self.fast_is_safe & _everywhere(in_range),
            lambda fast, safe, *rows: function(fast, *rows),
            lambda fast, safe, *rows: function(safe, *rows),
            self.fast,
            self.safe,
            x,
            *others,
        )

    def rows(self, x: Array) -> tuple[Array, Array]:
        """See `Ready.rows`."""
        return self._choose(lambda kernel, x: kernel.rows(x), x)

    def potential(self, x: Array) -> Array:
        """See `Ready.potential`."""
        return self._choose(lambda kernel, x: kernel.potential(x), x)

    def sweep(self, x: Array, row_weight: Array) -> Sweep:
        """See `Ready.sweep`."""
        return self._choose(lambda kernel, x, a: kernel.sweep(x, a), x, row_weight)


@pytree
class Guarded(Kernel):
    """`Moment` where the parameters at hand let it lose no more than `LOSS`, else `Reference`.

    Decided anew at each pass, under jit; a batch under `vmap` decides as one.
    """

    def ready(self, columns: Columns, components: Family) -> GuardedReady:
        """See `Kernel.ready`."""
        fast = Moment().ready(columns, components)
        amplification = jax.lax.stop_gradient(fast.form.amplification())
        safe = amplification <= largest_amplification(amplification.dtype)
        return GuardedReady(_everywhere(safe), fast, Reference().ready(columns, components))

    def numbers_per_row(self, components: Family) -> int:
        """The fast kernel's."""
        return Moment().numbers_per_row(components)
