"""How a pass over the rows goes: the rows as they are read, executions, and the choice of both.

A tile is an operand: a PyTree to call, `jax.tree_util.Partial(Kernel.sweep, kernel)`, so that an
execution may hand it to `scan`, `shard_map` or a host loop.
"""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jax.typing import DTypeLike
from jaxtyping import PyTree

from ..core.tree import along, is_float, pytree, static
from ..families.coordinates import Frame
from ..families.family import Family
from .entrywise import Entrywise, fits
from .kernels import Guarded, Kernel, Linear, Reference

SMALLEST = 512
"""Rows of a tile at least: below, products are too thin."""
ON_CPU = 10 * 2**20, 16_384
"""Bytes and rows of a tile at most: about a core's share of the last-level cache."""
ON_ACCELERATOR = 256 * 2**20, 2**20
"""The same where a tile is to keep thousands of lanes busy, and where the host waits for the
guard's choice once a tile. Reasoned, not measured."""
MOST_FEATURES = 4096
"""Beyond this many features per row a tile leaves the cache, and the products win nothing."""


@pytree
class Rows:
    """Raw rows with what a tile of them goes through, so that no second copy of all is made.

    Attributes:
        x: the rows as they were given: an array or a tree of arrays, with leading axis n.
        weight: [n] a, of sum 1, or all zero.
        frame: the coordinates in which they are read; None is their own.
        stand_in: what an absent row that is not finite is read as; None if none is absent.
    """

    x: PyTree
    weight: Array
    frame: Frame | None = None
    stand_in: PyTree = None


def rows_of(
    x: PyTree, weight: Array, frame: Frame | None = None, *, complete: bool = False
) -> Rows:
    """Rows, any of which may be absent unless they are `complete`."""
    if complete or weight.shape[0] == 0:
        return Rows(x, weight, frame)
    # a real row, the heaviest: zeros may lie off the family's support
    first = jnp.argmax(weight)
    heaviest = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, 1), x)
    heaviest = jax.lax.stop_gradient(heaviest if frame is None else frame.into(heaviest))
    finite = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0), heaviest)
    return Rows(x, weight, frame, finite)


def read(rows: Rows, x: PyTree, weight: Array) -> PyTree:
    """Some of the rows in their frame, each finite if its weight is 0.

    A finite absent row stays, so that the derivative in its weight is the right one.
    """
    x = x if rows.frame is None else rows.frame.into(x)
    if rows.stand_in is None:
        return x
    # replaced, not multiplied by its weight: 0 * nan is NaN
    readable = (weight != 0) | finite_rows(x, squares=True)
    return jax.tree.map(
        lambda leaf, instead: jnp.where(along(readable, leaf), leaf, instead), x, rows.stand_in
    )


def finite_rows(x: PyTree, squares: bool = False) -> Array:
    """[n] whether all of a row is finite, or the squares of its features are too."""
    leaves = [leaf for leaf in jax.tree.leaves(x) if is_float(leaf)]
    n = jax.tree.leaves(x)[0].shape[0]
    found = jnp.ones(n, bool)
    for leaf in leaves:
        most = float(jnp.finfo(leaf.dtype).max) ** (0.25 if squares else 1)
        found &= jnp.all(jnp.abs(leaf.reshape(n, -1)) <= most, axis=1)
    return found


class Execution(abc.ABC):
    """How what tiles yield is summed, or put side by side; it knows nothing of what is in one."""

    @abc.abstractmethod
    def reduce(
        self, tile: Callable[..., Any], rows: Rows, *others: Array, by_row: bool = False
    ) -> Any:
        """The sum of what `tile(x, weight, *others)` yields, over tiles that cover all rows.

        A tile gets some rows as `read` gives them, their weights [t], and the same rows of other
        arrays. With `by_row` it yields a pair, the second of which has a leading axis [t]; these
        are put side by side: [n].
        """

    @abc.abstractmethod
    def tile_rows(self, n: int) -> int:
        """Rows that are held at a time, of n."""

    def finer(self) -> "Execution":
        """For a pass whose tiles hold about twice as much per row, as a derivative's do."""
        return self

    def map(self, tile: Callable[..., Any], rows: Rows, *others: Array) -> Any:
        """The rows of `tile(x, weight, *others)`, side by side."""
        return self.reduce(Partial(_by_row, tile), rows, *others, by_row=True)[1]


def _by_row(tile: Callable[..., Any], *arguments: Any) -> tuple[None, Any]:
    return None, tile(*arguments)


@pytree
class Dense(Execution):
    """All rows as one tile; memory grows with what the kernel holds per row, at least k numbers."""

    def reduce(
        self, tile: Callable[..., Any], rows: Rows, *others: Array, by_row: bool = False
    ) -> Any:
        """See `Execution.reduce`."""
        del by_row
        return tile(read(rows, rows.x, rows.weight), rows.weight, *others)

    def tile_rows(self, n: int) -> int:
        """See `Execution.tile_rows`."""
        return n


@pytree
class Tiled(Execution):
    """`lax.scan` over tiles of equal size; float32 sums carry their rounding error along.

    The last tile is moved up to end with the last row, and rows that it shares with the one before
    count there with weight 0: nothing is padded, so nothing is copied. Backpropagation computes
    each tile again rather than keep what it held.

    Attributes:
        size: rows of a tile at most, static.
    """

    size: int = static(default=4096)

    def tile_rows(self, n: int) -> int:
        """See `Execution.tile_rows`."""
        # as equal as may be: what the last tile shares with the one before is computed twice
        count = max(-(-n // self.size), 1)
        return min(-(-n // (8 * count)) * 8, self.size, n)

    def finer(self) -> "Tiled":
        """See `Execution.finer`."""
        return Tiled(max(self.size // 2, 1))

    def reduce(
        self, tile: Callable[..., Any], rows: Rows, *others: Array, by_row: bool = False
    ) -> Any:
        """See `Execution.reduce`."""
        n = rows.weight.shape[0]
        if n <= self.size:
            return tile(read(rows, rows.x, rows.weight), rows.weight, *others)
        size = self.tile_rows(n)

        def one(number: Array) -> tuple[Array, tuple[Any, Any]]:
            first = jnp.minimum(number * size, n - size)
            # sliced inside the checkpoint: backpropagation keeps a number, not a copy of the tile
            x, weight, *same = jax.tree.map(
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, size),
                (rows.x, rows.weight, *others),
            )
            new = first + jnp.arange(size) >= number * size
            weight = jnp.where(new, weight, 0)
            yielded = tile(read(rows, x, weight), weight, *same)
            return first, yielded if by_row else (yielded, None)

        # Inside a scan nothing else could be merged with the second computation of a tile.
        again = jax.checkpoint(one, prevent_cse=False)

        def body(carry: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], None]:
            sums, side_by_side = carry
            first, (added, part) = again(number)
            return (_plus(sums, added), _write(side_by_side, part, first)), None

        count = -(-n // size)
        summed, part = jax.eval_shape(one, jnp.zeros((), jnp.int32))[1]
        blank = jax.tree.map(lambda leaf: jnp.empty((n, *leaf.shape[1:]), leaf.dtype), part)
        # The last tile goes first: of the rows that it shares, the one before writes the answer.
        order = jnp.roll(jnp.arange(count, dtype=jnp.int32), 1)
        (sums, side_by_side), _ = jax.lax.scan(body, (_zeros(summed), blank), order)
        # once, at the end: added at each tile the errors would be rounded away again
        total = jax.tree.map(lambda s, e: s if e.size == 0 else s + e, *sums)
        return (total, side_by_side) if by_row else total


def _write(whole: PyTree, part: PyTree, first: Array) -> PyTree:
    """Rows of the answer, in place: side by side from the start, so that nothing is copied."""
    return jax.tree.map(
        lambda w, p: jax.lax.dynamic_update_slice_in_dim(w, p, first, axis=0), whole, part
    )


def _zeros(like: PyTree) -> tuple[PyTree, PyTree]:
    """Running sums, and their rounding errors below double precision; empty ones above it."""
    sums = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), like)
    # empty, not None: the carry of a scan keeps one structure
    narrow = jax.tree.map(lambda s: is_float(s) and s.dtype.itemsize < 8, like)
    return sums, jax.tree.map(lambda s, n: s if n else jnp.zeros((0,), s.dtype), sums, narrow)


def _plus(sums: tuple[PyTree, PyTree], new: PyTree) -> tuple[PyTree, PyTree]:
    """The sums and what their rounding lost (Knuth's two-sum): thousands of tiles lose no digit."""
    before, errors = sums
    after = jax.tree.map(jnp.add, before, new)

    def lost(a: Array, b: Array, total: Array, error: Array) -> Array:
        if error.size == 0:
            return error
        # 0 in exact arithmetic, so its derivative is too
        a, b, total = jax.lax.stop_gradient((a, b, total))
        part = total - a
        # as written: a compiler that may reassociate would make it 0
        missing = (a - (total - part)) + (b - part)
        # inf - inf: an infinite sum must stay infinite, not become NaN
        return error + jnp.where(jnp.isfinite(missing), missing, 0)

    return after, jax.tree.map(lost, before, new, after, errors)


@pytree
class Engine:
    """A kernel and an execution: how a pass over the rows is made.

    Attributes:
        kernel: what a tile of rows yields; a class, static.
        execution: how tiles are summed.
    """

    kernel: type[Kernel] = static(default=Reference)
    execution: Execution = Dense()


def choose(components: Family, n: int, dtype: DTypeLike) -> Engine:
    """The engine for n rows, from shapes alone.

    The linear kernel where the family has a linear form, guarded where that needs it; the
    entrywise kernel for small problems, else the reference. Tiles hold about 10 MiB on a CPU, 256
    MiB elsewhere; rows that fit into one are not split.
    """
    kernel: type[Kernel] = Reference
    # asked first: small problems then trace no linear form
    if n <= SMALLEST and fits(components):
        kernel = Entrywise
    else:
        form: Any = jax.eval_shape(lambda c: c.linear_form(), components)
        if form is not None and form.natural_parameters.shape[-1] <= MOST_FEATURES:
            kernel = Guarded if form.guarded else Linear
    size = tile_size(kernel, components, dtype)
    return Engine(kernel, Dense() if n <= size else Tiled(size))


def tile_size(kernel: type[Kernel], components: Any, dtype: DTypeLike) -> int:
    """The power of two of rows that a tile holds on JAX's default platform, within bounds."""
    most_bytes, most_rows = ON_CPU if jax.default_backend() == "cpu" else ON_ACCELERATOR
    per_row = kernel.numbers_per_row(components) * jnp.dtype(dtype).itemsize
    # - binds tighter than <<: the power of two at or below the quotient
    return min(max(1 << max((most_bytes // per_row).bit_length() - 1, 0), SMALLEST), most_rows)
