"""The plan between rows and components: applied tile by tile, held whole only when asked for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float, PyTree

from ..core.display import bar, brief, harmless, known, law, optional, page, table
from ..core.numerics import kl_divergence, matmul, safe_divide
from ..core.tree import pytree, replace
from ..core.typing import AnyArray
from ..engine import Columns, DualSweep, Engine, Kernel, Rows, Sweep, dual, sweep, value
from .couplings import Coupling, SemiRelaxed, implied_target, psi
from .newton import Inner, Potential, attach, solve_potential


@pytree
class Plan:
    """The optimal plan P of a coupling [n, k]: a transport problem, and its potentials once solved.

    Attributes:
        rows: the rows with their weights.
        components: whose cost it is.
        columns: reference weights and entropy.
        coupling: what is asked of the column sums.
        engine: how a pass over the rows is made.
        potential: the column potentials with the account of their solve; None before it.
    """

    rows: Rows
    components: Any
    columns: Columns
    coupling: Coupling = SemiRelaxed()
    engine: Engine = Engine()
    potential: Potential | None = None

    @harmless
    def __repr__(self) -> str:
        n, solved = self.rows.weight.shape[-1], self.potential is not None
        coupling, entropy = type(self.coupling).__name__, brief(self.entropy)
        state = "solved" if solved or self.coupling.free else "not solved yet"
        return f"Plan({n} rows, {law(self.components)}, {coupling}, epsilon={entropy}, {state})"

    @optional
    def _repr_html_(self) -> str:
        sizes = known(self.log_target)
        rows = [] if sizes is None else enumerate(np.exp(sizes).tolist())
        shares = [[str(j), bar(size)] for j, size in rows]
        # what a pass over the rows would say, `column_marginal`, is not asked for a display
        asked = "weight" if self.coupling.free else "target size"
        return page(repr(self), table(["component", asked], shares))

    @property
    def entropy(self) -> Array | float:
        """The entropy epsilon."""
        return 1.0 if self.columns.epsilon is None else self.columns.epsilon

    @property
    def log_target(self) -> Float[Array, " k"]:
        """The logarithm of the target sizes b."""
        return self.coupling.target(self.columns.log_weights)

    def sweep(self, columns: Columns) -> DualSweep:
        """One pass over the rows."""
        return dual(self.engine, self.rows, columns, self.components)

    def statistics(self, g: Array | None) -> Sweep:
        """The sweep at potentials g, whose value is the dual's."""
        found = sweep(self.engine, self.rows, replace(self.columns, g=g), self.components)
        return replace(found, value=found.value + self._columns_share(g))

    def dual(self, g: Array | None) -> Float[Array, ""]:
        """D(g): a lower bound on the problem's value, sharp at the optimum."""
        free = value(self.engine, self.rows, replace(self.columns, g=g), self.components)
        return free + self._columns_share(g)

    def gradient(self, g: Float[Array, " k"]) -> Float[Array, " k"]:
        """The dual's gradient, w - m."""
        mass = self.sweep(replace(self.columns, g=g)).mass
        return implied_target(g, self.log_target, self.coupling.penalty_strength()) - mass

    def _columns_share(self, g: Array | None) -> Array | float:
        return 0.0 if g is None else psi(g, self.log_target, self.coupling.penalty_strength())

    def solve(self, start: Array | None = None, inner: Inner = Inner()) -> "Plan":
        """The plan with its potentials, which have the derivative of the dual's maximiser."""
        zeros = jnp.zeros_like(self.columns.log_weights)
        if self.coupling.free:
            none = Potential(zeros, jnp.zeros((), zeros.dtype), jnp.zeros((), jnp.int32))
            return replace(self, potential=none)
        # without potentials the problem has one structure, so the solve is compiled once
        bare = replace(self, potential=None)
        start = zeros if start is None else start
        # a while_loop has no reverse mode: the derivative comes from `attach`
        found = solve_potential(*jax.lax.stop_gradient((bare, start)), inner)
        return replace(self, potential=replace(found, g=attach(bare, found.g)))

    @property
    def g(self) -> Float[Array, " k"]:
        """Column potentials, in the units of the cost (nats)."""
        plan = self.solve() if self.potential is None else self
        return plan.potential.g  # type: ignore[union-attr]

    def _kernel(self) -> Kernel:
        # Without potentials known to be 0, so that no pass divides by an entropy of 1.
        g = None if self.coupling.free else self.g
        return self.engine.kernel.of(replace(self.columns, g=g), self.components)

    @property
    def f(self) -> Float[Array, " n"]:
        """Row potentials, in the units of the cost (nats)."""
        return self.engine.execution.map(Partial(_potential, self._kernel()), self.rows)

    @property
    def matrix(self) -> Float[Array, "n k"]:
        """The whole plan: n times k numbers."""
        return self.engine.execution.map(Partial(_matrix, self._kernel()), self.rows)

    def apply(self, v: Float[AnyArray, "k ..."]) -> Float[Array, "n ..."]:
        """P v, without holding P. With v the components' means, a_i times the projected row."""
        v = jnp.asarray(v)
        tile = Partial(_apply, self._kernel(), v.reshape(v.shape[0], -1))
        return self.engine.execution.map(tile, self.rows).reshape(-1, *v.shape[1:])

    def apply_transpose(self, u: Float[AnyArray, "n ..."]) -> Float[Array, "k ..."]:
        """P^T u, without holding P."""
        u = jnp.asarray(u)
        tile, flat = Partial(_apply_transpose, self._kernel()), u.reshape(u.shape[0], -1)
        return self.engine.execution.reduce(tile, self.rows, flat).reshape(-1, *u.shape[1:])

    @property
    def row_marginal(self) -> Float[Array, " n"]:
        """P 1: the row weights a."""
        return self.apply(jnp.ones(self.g.shape[0], self.g.dtype))

    @property
    def column_marginal(self) -> Float[Array, " k"]:
        """P^T 1: the sizes."""
        return self.apply_transpose(jnp.ones_like(self.rows.weight))

    @property
    def dual_value(self) -> Float[Array, ""]:
        """D(g): a lower bound on the problem's value, for any g."""
        return self.dual(None if self.coupling.free else self.g)

    @property
    def value(self) -> Float[Array, ""]:
        """What a feasible plan costs: an upper bound on the problem's value.

        Where the sizes are prescribed (rho = inf) it is that of the plan rounded to them: columns
        that are too large shrink, and the rest is spread as a product (Altschuler et al., 2017).
        """
        rho = self.coupling.penalty_strength()
        target, mass = jnp.exp(self.log_target), self.column_marginal
        prescribed = jnp.isinf(rho)
        shrink = jnp.where(prescribed, jnp.minimum(safe_divide(target, mass), 1), 1)
        missing = jnp.where(prescribed, jnp.maximum(target - mass * shrink, 0), 0)
        spread = safe_divide(missing, jnp.sum(missing))
        reference = jnp.exp(self.columns.log_weights)
        cost = self.components.prepared_cost()
        tile = Partial(_paid, cost, self._kernel(), shrink, spread, reference, self.entropy)
        # inf * 0: prescribed sizes are met exactly, and cost nothing
        strength = jnp.where(prescribed | (jnp.asarray(rho) == 0), 0, rho)
        off = jnp.where(strength > 0, strength * kl_divergence(mass, target), 0)
        return self.engine.execution.reduce(tile, self.rows) + off

    @property
    def gap(self) -> Float[Array, ""]:
        """Value - dual_value >= 0: how far either is from the optimum, at most."""
        return self.value - self.dual_value


def _potential(kernel: Kernel, x: PyTree, a: Array) -> Array:
    del a
    return kernel.potential(x)


def _matrix(kernel: Kernel, x: PyTree, a: Array) -> Array:
    return a[:, None] * kernel.rows(x)[1]


def _apply(kernel: Kernel, v: Array, x: PyTree, a: Array) -> Array:
    return a[:, None] * matmul(kernel.rows(x)[1], v)


def _apply_transpose(kernel: Kernel, x: PyTree, a: Array, u: Array) -> Array:
    return matmul((a[:, None] * kernel.rows(x)[1]).T, u)


def _paid(
    cost: Any,
    kernel: Kernel,
    shrink: Array,
    spread: Array,
    weights: Array,
    entropy: Array | float,
    x: PyTree,
    a: Array,
) -> Array:
    """What a tile of the rounded plan costs, and its entropy against a pi^T."""
    kept = a[:, None] * kernel.rows(x)[1] * shrink
    # rounding may take it below 0, and a plan has no negative mass
    short = jnp.maximum(a - jnp.sum(kept, axis=1), 0)
    plan = kept + short[:, None] * spread
    # twice `where`: 0 * inf is NaN
    paid = jnp.sum(jnp.where(plan > 0, plan * jnp.where(plan > 0, cost(x), 0), 0))
    reference = a[:, None] * weights
    # Without the mass terms of KL: a column whose target is 0 is gone from the reference.
    relative = kl_divergence(plan, reference) + jnp.sum(plan) - jnp.sum(reference)
    return paid + entropy * relative
