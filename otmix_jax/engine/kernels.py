"""What one tile of rows yields: kernels, prepared for given columns and components.

A kernel is a PyTree: whatever depends on no row is computed when it is made (`of`), and a pass over
the rows takes it as an operand. It knows a family and the row softmax; nothing of traversal.
"""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float, PyTree

from ..core.numerics import accurate_sum, everywhere, matmul, row_softmax, soft_rows
from ..core.tree import is_float, pytree, replace
from ..families.forms import LinearForm


@pytree
class Columns:
    """What decides the plan besides the cost: one number per column, and the entropy.

    Attributes:
        log_weights: [k] log pi, the reference weights.
        g: [k] column potentials; None is 0, the semi-relaxed problem.
        epsilon: entropy, >= 0; None is 1.
    """

    log_weights: Array
    g: Array | None = None
    epsilon: Array | float | None = None


@pytree
class Sweep:
    """A commutative monoid under addition: tiles, devices and minibatches are ways to sum it.

    Attributes:
        value: sum_i a_i f_i, in nats.
        mass: [k] m_j = sum_i P_ij, the plan's column marginal.
        statistics: the family's additive statistics, sum_i P_ij T(x_i).
    """

    value: Array
    mass: Array
    statistics: PyTree


@pytree
class DualSweep:
    """What the column potentials are found from: additive, as a `Sweep` is.

    Attributes:
        value: sum_i a_i f_i, in nats.
        mass: [k] m_j = sum_i P_ij.
        overlap: [k, k] sum_i P_ij P_il / a_i, the curvature's share of the rows.
    """

    value: Array
    mass: Array
    overlap: Array


def weighted_value(row_weight: Array, f: Array) -> Array:
    """sum_i a_i f_i, where 0 * inf is 0.

    A finite f of an absent row stays in, so that the derivative in its weight is the right one.
    """
    counted = (row_weight != 0) | jnp.isfinite(f)
    return accurate_sum(row_weight * jnp.where(counted, f, 0))


def floats(tree: PyTree) -> list:
    """The leaves of floating type, in order."""
    return [leaf for leaf in jax.tree.leaves(tree) if is_float(leaf)]


class Kernel(abc.ABC):
    """A kernel prepared for columns and components. Rows of weight 0 add nothing; they must be
    finite.
    """

    columns: Columns

    @classmethod
    @abc.abstractmethod
    def of(cls, columns: Columns, components: Any) -> "Kernel":
        """The kernel for these columns and components."""

    @classmethod
    @abc.abstractmethod
    def numbers_per_row(cls, components: Any) -> int:
        """About how many numbers a tile holds per row, which decides its size."""

    @abc.abstractmethod
    def rows(self, x: PyTree) -> tuple[Float[Array, " t"], Float[Array, "t k"]]:
        """Row potential f and conditional plan P / a of each row."""

    @abc.abstractmethod
    def sweep(self, x: PyTree, row_weight: Float[Array, " t"]) -> Sweep:
        """The tile's value, mass and statistics."""

    def potential(self, x: PyTree) -> Float[Array, " t"]:
        """The row potential f alone."""
        return self.rows(x)[0]

    def value(self, x: PyTree, row_weight: Float[Array, " t"]) -> Float[Array, ""]:
        """The tile's value alone."""
        return weighted_value(row_weight, self.potential(x))

    def slopes(self, x: PyTree, row_weight: Array, by_row: bool) -> tuple[Array, list, list]:
        """The tile's value; its derivatives in the kernel's `floats`; and those in the rows.

        The last are in the real leaves of x and in the row weights, if `by_row`, else none.
        """
        leaves, structure = jax.tree.flatten(x)

        def value_of(kernel: Kernel, *moved: Array) -> Array:
            if not moved:
                return kernel.value(x, row_weight)
            *real, weight = moved
            rest = iter(real)  # codes have no derivative
            whole = [next(rest) if is_float(leaf) else leaf for leaf in leaves]
            return kernel.value(jax.tree.unflatten(structure, whole), weight)

        value, pullback = jax.vjp(value_of, self, *((*floats(x), row_weight) if by_row else ()))
        in_kernel, *in_rows = pullback(jnp.ones_like(value))
        # integer and boolean leaves come back as float0, which no sum takes
        return value, floats(in_kernel), in_rows

    def dual(self, x: PyTree, row_weight: Float[Array, " t"]) -> DualSweep:
        """The tile's value, mass and overlap."""
        f, conditional = self.rows(x)
        plan = row_weight[:, None] * conditional
        value = weighted_value(row_weight, f)
        return DualSweep(value, jnp.sum(plan, axis=0), matmul(plan.T, conditional))


@pytree
class Reference(Kernel):
    """The definition of correct: cost matrix, row softmax, statistics, for any family.

    Holds the whole [t, k] plan of a tile, and what the family holds per row and component.
    Elliptical families whiten the difference of each row and mean, so a cost loses no more digits
    than the difference does: the safe way.
    """

    columns: Columns
    cost: Callable[[PyTree], Array]
    components: Any

    @classmethod
    def of(cls, columns: Columns, components: Any) -> "Reference":
        """See `Kernel.of`."""
        return cls(columns, components.prepared_cost(), components)

    @classmethod
    def numbers_per_row(cls, components: Any) -> int:
        """What the family holds."""
        return components.numbers_per_row()

    def rows(self, x: PyTree) -> tuple[Array, Array]:
        """See `Kernel.rows`."""
        columns = self.columns
        g = 0.0 if columns.g is None else columns.g
        return row_softmax(self.cost(x), columns.log_weights, g, columns.epsilon)

    def sweep(self, x: PyTree, row_weight: Array) -> Sweep:
        """See `Kernel.sweep`."""
        f, conditional = self.rows(x)
        plan = row_weight[:, None] * conditional
        statistics = self.components.statistics(x, plan)
        return Sweep(weighted_value(row_weight, f), jnp.sum(plan, axis=0), statistics)


@pytree
class Linear(Kernel):
    """Two matrix products, T(x) eta^T before the softmax and P^T T(x) after it.

    For families with a linear form: half the work of `Reference`. Quadratic forms lose digits
    where means lie many standard deviations apart or columns correlate strongly: use `Guarded`,
    which knows when.

    Attributes:
        columns: what decides the plan besides the cost.
        form: the family. Where the cost is minus the score and epsilon is 1, its natural
            parameters yield the logits log pi_j + g_j - c_ij; else only the scores.
        bare: [k, q] the natural parameters without log pi_j and g_j, of absent components too.
    """

    columns: Columns
    form: LinearForm
    bare: Array

    @classmethod
    def of(cls, columns: Columns, components: Any) -> "Linear":
        """See `Kernel.of`.

        Raises:
            TypeError: for a family without a linear form.
        """
        form = components.linear_form()
        if form is None:
            raise TypeError(
                f"{type(components).__name__} has no linear form: use the Reference kernel"
            )
        bare = form.natural_parameters
        if columns.epsilon is None and not form.linked:
            form = replace(form, natural_parameters=_in_logits(columns, bare))
        return cls(columns, form, bare)

    @classmethod
    def numbers_per_row(cls, components: Any) -> int:
        """The features, and three numbers per component."""
        # shapes alone: nothing is computed
        form: Any = jax.eval_shape(lambda c: c.linear_form(), components)
        return form.natural_parameters.shape[-1] + 3 * components.n_components

    def _plan(self, x: PyTree, features: Array, scores: Array) -> tuple[Array, Array]:
        columns, base = self.columns, self.form.log_base_measure(x)
        if columns.epsilon is None and not self.form.linked:
            # base is the same for every component: the softmax does not feel it, only f does
            absent = None if columns.g is not None else Partial(matmul, features, self.bare.T)
            f, conditional = soft_rows(scores, columns.log_weights, absent)
            return f - base, conditional
        g = 0.0 if columns.g is None else columns.g
        if self.form.linked:
            # a link is not linear, so base goes in before it
            cost = self.form.cost(scores + jnp.reshape(base, (-1, 1)))
            return row_softmax(cost, columns.log_weights, g, columns.epsilon)
        f, conditional = row_softmax(-scores, columns.log_weights, g, columns.epsilon)
        return f - base, conditional

    def rows(self, x: PyTree) -> tuple[Array, Array]:
        """See `Kernel.rows`."""
        features = self.form.sufficient_statistics(x)
        return self._plan(x, features, matmul(features, self.form.natural_parameters.T))

    def sweep(self, x: PyTree, row_weight: Array) -> Sweep:
        """See `Kernel.sweep`."""
        form, features = self.form, self.form.sufficient_statistics(x)
        scores = matmul(features, form.natural_parameters.T)
        f, conditional = self._plan(x, features, scores)
        plan = row_weight[:, None] * conditional
        value = weighted_value(row_weight, f)
        if not form.linked:
            sums = matmul(plan.T, features)
            statistics = form.statistics(sums, form.total(x, row_weight))
            # the first feature is 1, so its sum is the mass: no further pass over the plan
            return Sweep(value, sums[:, 0], statistics)
        scores += jnp.reshape(form.log_base_measure(x), (-1, 1))
        scaled = plan * form.scale(scores)
        total = form.total(x, jnp.sum(scaled, axis=1))
        statistics = form.statistics(matmul(scaled.T, features), total)
        statistics = form.completed(statistics, plan, scores)
        return Sweep(value, jnp.sum(plan, axis=0), statistics)


def _in_logits(columns: Columns, parameters: Array) -> Array:
    """Parameters with log pi + g in the constant: one pass less over the logits of a tile.

    An absent component gets a constant that no exponential survives, but a finite one, since a
    product of split numbers makes NaN of an infinite one; unless none is present at all.
    """
    present = columns.log_weights > -jnp.inf
    # a quarter of the range: what is added to it must not reach -inf
    lowest = jnp.where(jnp.any(present), 0.25 * jnp.finfo(parameters.dtype).min, -jnp.inf)
    g = 0.0 if columns.g is None else columns.g
    offset = jnp.where(present, columns.log_weights + g, lowest)
    kept = jnp.where(present[:, None], parameters, 0)  # an absent one may hold anything
    return kept.at[:, 0].add(offset)


@pytree
class Guarded(Kernel):
    """`Linear` where the parameters and rows at hand let it keep the digits, else `Reference`.

    Decided anew at each pass and tile, under jit; a batch under `vmap` decides as one.

    Attributes:
        fast_is_safe: whether the parameters let it.
        fast: the linear kernel.
        safe: the reference kernel.
    """

    fast_is_safe: Array
    fast: Linear
    safe: Reference

    @classmethod
    def of(cls, columns: Columns, components: Any) -> "Guarded":
        """See `Kernel.of`."""
        fast = Linear.of(columns, components)
        # both kernels invert the same factors: XLA merges the two, as there is no loop in them
        return cls(everywhere(fast.form.safe()), fast, Reference.of(columns, components))

    @classmethod
    def numbers_per_row(cls, components: Any) -> int:
        """The fast kernel's."""
        return Linear.numbers_per_row(components)

    @property
    def columns(self) -> Columns:  # type: ignore[override]
        """The kernels' own."""
        return self.fast.columns

    def _take_fast(self, x: PyTree) -> Array:
        # it decides between kernels of the same value: no derivative
        reaches = everywhere(self.fast.form.reaches(jax.lax.stop_gradient(x)))
        return self.fast_is_safe & reaches

    def rows(self, x: PyTree) -> tuple[Array, Array]:
        """See `Kernel.rows`."""
        return jax.lax.cond(self._take_fast(x), self.fast.rows, self.safe.rows, x)

    def potential(self, x: PyTree) -> Array:
        """See `Kernel.potential`."""
        return jax.lax.cond(self._take_fast(x), self.fast.potential, self.safe.potential, x)

    def sweep(self, x: PyTree, row_weight: Array) -> Sweep:
        """See `Kernel.sweep`."""
        return jax.lax.cond(self._take_fast(x), self.fast.sweep, self.safe.sweep, x, row_weight)

    def slopes(self, x: PyTree, row_weight: Array, by_row: bool) -> tuple[Array, list, list]:
        """See `Kernel.slopes`. Each kernel's derivative within its own branch.

        The derivative of a choice would hold what either kernel's needs, for every row.
        """

        # branches of a cond yield the same structure: zeros for the kernel that does not run
        def in_fast(x: PyTree, a: Array) -> tuple[Array, Any, Any]:
            value, slopes, in_rows = self.fast.slopes(x, a, by_row)
            return value, (slopes, jax.tree.map(jnp.zeros_like, floats(self.safe))), in_rows

        def in_safe(x: PyTree, a: Array) -> tuple[Array, Any, Any]:
            value, slopes, in_rows = self.safe.slopes(x, a, by_row)
            return value, (jax.tree.map(jnp.zeros_like, floats(self.fast)), slopes), in_rows

        value, (fast, safe), in_rows = jax.lax.cond(
            self._take_fast(x), in_fast, in_safe, x, row_weight
        )
        return value, [*fast, *safe], in_rows
