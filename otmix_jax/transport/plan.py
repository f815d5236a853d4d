"""The plan between rows and components: applied tile by tile, held whole only when asked for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._numerics import matmul, normalize, safe_divide, safe_log
from .._pytree import pytree, replace
from .._rows import kl_divergence
from .._typing import AnyArray
from ..engine import Columns, DualSweep, Engine, Ready, Rows, Sweep, choose
from .couplings import Coupling, SemiRelaxed, psi
from .potential import DualProblem, Inner, Potential, attach, solve_potential


@pytree
class RowsProblem(DualProblem):
    """The transport problem of rows and components, swept by an engine."""

    rows: Rows
    components: Any
    columns: Columns
    coupling: Coupling = SemiRelaxed()
    engine: Engine = Engine()

    def sweep(self, columns: Columns) -> DualSweep:
        """See `DualProblem.sweep`."""
        return self.engine.dual(self.rows, columns, self.components)

    def statistics(self, g: Array | None) -> Sweep:
        """The sweep at potentials g, whose value is the dual's."""
        sweep = self.engine.sweep(self.rows, replace(self.columns, g=g), self.components)
        return replace(sweep, value=sweep.value + self._columns_share(g))

    def value(self, g: Array | None) -> Array:
        """See `DualProblem.value`."""
        columns = replace(self.columns, g=g)
        return self.engine.value(self.rows, columns, self.components) + self._columns_share(g)

    def _columns_share(self, g: Array | None) -> Array | float:
        return 0.0 if g is None else psi(g, self.log_target, self.coupling.penalty_strength())

    def solve(self, start: Array | None = None, inner: Inner = Inner()) -> Potential:
        """The potentials from a start [k], with the derivative of the dual's maximiser."""
        zeros = jnp.zeros_like(self.columns.log_weights)
        if self.coupling.free:
            return Potential(zeros, jnp.zeros((), zeros.dtype), jnp.zeros((), jnp.int32))
        start = zeros if start is None else start
        found = solve_potential(*jax.lax.stop_gradient((self, start)), inner)
        return replace(found, g=attach(self, found.g))


@pytree
class Plan:
    """The optimal plan P of a coupling [n, k], by its potentials.

    Attributes:
        problem: rows, components, proportions, entropy, coupling.
        potential: the column potentials with the account of their solve.
    """

    problem: RowsProblem
    potential: Potential

    @property
    def g(self) -> Float[Array, " k"]:
        """Column potentials, in the units of the cost (nats)."""
        return self.potential.g

    @property
    def _ready(self) -> Ready:
        problem = self.problem
        return problem.engine.ready(replace(problem.columns, g=self.g), problem.components)

    def _by_row(self, tile: Callable[..., Any]) -> Array:
        return self.problem.engine.execution.map(tile, self.problem.rows)

    def _summed(self, tile: Callable[..., Any], *others: Array) -> Array:
        return self.problem.engine.execution.sum(tile, self.problem.rows, *others)

    @property
    def f(self) -> Float[Array, " n"]:
        """Row potentials, in the units of the cost (nats)."""
        ready = self._ready
        return self._by_row(lambda x, a: ready.potential(x))

    @property
    def matrix(self) -> Float[Array, "n k"]:
        """The whole plan: n times k numbers."""
        ready = self._ready
        return self._by_row(lambda x, a: a[:, None] * ready.rows(x)[1])

    def apply(self, v: Float[AnyArray, "k ..."]) -> Float[Array, "n ..."]:
        """P v, without holding P. With v the components' means, a_i times the projected row."""
        v = jnp.asarray(v)
        flat = v.reshape(v.shape[0], -1)
        ready = self._ready
        product = self._by_row(lambda x, a: a[:, None] * matmul(ready.rows(x)[1], flat))
        return product.reshape(-1, *v.shape[1:])

    def apply_transpose(self, u: Float[AnyArray, "n ..."]) -> Float[Array, "k ..."]:
        """P^T u, without holding P."""
        u = jnp.asarray(u)
        flat, ready = u.reshape(u.shape[0], -1), self._ready

        def tile(x: Array, a: Array, u: Array) -> Array:
            return matmul((a[:, None] * ready.rows(x)[1]).T, u)

        return self._summed(tile, flat).reshape(-1, *u.shape[1:])

    @property
    def row_marginal(self) -> Float[Array, " n"]:
        """P 1: the row weights a."""
        return self.apply(jnp.ones(self.g.shape[0], self.g.dtype))

    @property
    def column_marginal(self) -> Float[Array, " k"]:
        """P^T 1: the sizes."""
        return self.apply_transpose(jnp.ones_like(self.problem.rows.weight))

    @property
    def dual_value(self) -> Float[Array, ""]:
        """D(g): a lower bound on the problem's value, for any g."""
        return self.problem.value(self.g)

    @property
    def value(self) -> Float[Array, ""]:
        """What a feasible plan costs: an upper bound on the problem's value.

        Where the sizes are prescribed (rho = inf) it is that of the plan rounded to them: columns
        that are too large shrink, and the rest is spread as a product (Altschuler et al., 2017).
        """
        problem = self.problem
        rho = problem.coupling.penalty_strength()
        target = jnp.exp(problem.log_target)
        mass = self.column_marginal
        prescribed = jnp.isinf(rho)
        shrink = jnp.where(prescribed, jnp.minimum(safe_divide(target, mass), 1), 1)
        missing = jnp.where(prescribed, jnp.maximum(target - mass * shrink, 0), 0)
        spread = safe_divide(missing, jnp.sum(missing))
        ready = self._ready

        def tile(x: Array, a: Array) -> Array:
            cost = problem.components.cost(x)
            kept = a[:, None] * ready.rows(x)[1] * shrink
            short = jnp.maximum(a - jnp.sum(kept, axis=1), 0)
            plan = kept + short[:, None] * spread
            reference = a[:, None] * jnp.exp(problem.columns.log_weights)
            paid = jnp.sum(jnp.where(plan > 0, plan * jnp.where(plan > 0, cost, 0), 0))
            # Without the mass terms of KL: a column whose target is 0 is gone from the reference.
            relative = kl_divergence(plan, reference) + jnp.sum(plan) - jnp.sum(reference)
            return paid + problem.entropy * relative

        strength = jnp.where(prescribed | (jnp.asarray(rho) == 0), 0, rho)
        off = jnp.where(strength > 0, strength * kl_divergence(mass, target), 0)
        return self._summed(tile) + off

    @property
    def gap(self) -> Float[Array, ""]:
        """Value - dual_value >= 0: how far either is from the optimum, at most."""
        return self.value - self.dual_value


def rows_problem(
    mixture: Any,
    x: AnyArray,
    sample_weight: AnyArray | None,
    coupling: Coupling,
    epsilon: Array | float | None,
) -> RowsProblem:
    """The transport problem of a mixture and rows."""
    x = jnp.asarray(x)
    weight = jnp.ones(x.shape[0], x.dtype) if sample_weight is None else jnp.asarray(sample_weight)
    rows = Rows.of(x, normalize(weight), complete=sample_weight is None)
    columns = Columns(coupling.reference(mixture.log_weights), None, epsilon)
    engine = choose(mixture.components, x.shape[0], x.dtype)
    return RowsProblem(rows, mixture.components, columns, coupling, engine)


def plan(
    mixture: Any,
    x: Float[AnyArray, "n d"],
    *,
    sample_weight: Float[AnyArray, " n"] | None = None,
    coupling: Coupling = SemiRelaxed(),
    epsilon: Array | float = 1.0,
    inner: Inner = Inner(),
) -> Plan:
    """The optimal plan between rows and the components of a mixture.

    Args:
        mixture: its components give the cost -log p, its proportions the reference pi.
        x: [n, d] rows.
        sample_weight: [n] weights >= 0, divided by their sum; None for equal ones.
        coupling: `SemiRelaxed()`: the responsibilities times the row weights. `Balanced()`: column
            sums are prescribed. `Penalized(rho)`: between the two.
        epsilon: entropy, >= 0; 0 is the hard assignment, with `SemiRelaxed()` only.
        inner: options of the inner solve.

    Example:
        >>> import jax, otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> mixture = om.fit(x, 2, key=0).mixture
        >>> plan = om.transport.plan(mixture, x, coupling=om.couplings.Balanced())
        >>> bool(abs(plan.column_marginal - mixture.weights).max() < 1e-6)
        True
    """
    problem = rows_problem(mixture, x, sample_weight, coupling, epsilon)
    return Plan(problem, problem.solve(inner=inner))


def log_ratio(mass: Array, log_weights: Array) -> Float[Array, " k"]:
    """The logarithm of D_j = m_j / pi_j, -inf at absent components."""
    present = log_weights > -jnp.inf
    return jnp.where(present, safe_log(mass) - jnp.where(present, log_weights, 0), -jnp.inf)
