"""What is minimised: a problem as a user states it, and the objective that solvers ask."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float, PyTree

from ..core.numerics import normalize
from ..core.reading import numbers, read_rows
from ..core.tree import cast, is_float, is_plain, pytree, replace, static
from ..core.typing import AnyArray
from ..engine import Columns, Engine, Rows, choose, rows_of
from ..engine.passes import value as value_of
from ..families.checks import check_prior
from ..families.coordinates import Frame
from ..priors import Prior
from ..transport import Plan
from ..transport.couplings import Coupling, SemiRelaxed
from .mixtures import Mixture, check_shapes, rows_for


@pytree
class Problem:
    """min over pi and theta of H_rho(pi, theta) + penalty(theta): entropic transport.

    As it stands by default it is maximum likelihood: the semi-relaxed problem at epsilon = 1 (the
    note's eq. 2.6 and 3.1).

    Attributes:
        x: the rows: [n, d], or a dict (any tree) of real, integer and boolean arrays with leading
            axis n, as the family wants them.
        sample_weight: [n] weights >= 0 of any positive sum, or None for equal ones. A row of
            weight 0 is absent, whatever it holds; integer weights are repeated rows.
        epsilon: entropy, >= 0; None is 1, known when compiling. With learned scale parameters any
            other value is a biased estimator (p^(1/epsilon) is not normalised).
        coupling: `SemiRelaxed()`, `Penalized(rho, sizes)` or `Balanced(sizes)`.
        learn_weights: whether the proportions move. None: yes, unless the coupling prescribes
            them.
        prior: a `priors.Prior`, or one of its parts alone; None is none.
        frame: the coordinates in which the mixture describes the rows; `fit` centres and scales
            so, without a second copy of them. None is their own; a constant to a derivative.
    """

    x: PyTree
    sample_weight: AnyArray | None = None
    epsilon: Array | float | None = None
    coupling: Coupling = SemiRelaxed()
    prior: PyTree = None
    learn_weights: bool | None = static(default=None)
    frame: Frame | None = None

    @property
    def n_rows(self) -> int:
        """The length n of the leading axis."""
        return jax.tree.leaves(self.x)[0].shape[0]

    @property
    def dtype(self) -> jnp.dtype:
        """The precision of the rows' real leaves; the default one where all are codes."""
        return _precision(self.x)

    def checked(self, mixture: Mixture | None = None) -> "Problem":
        """The same with JAX arrays of one precision.

        Args:
            mixture: one that is to describe the rows.

        Raises:
            ValueError: at trace time, unless these are real numbers, all leaves and weights with n
                rows, in the columns that the mixture describes.
            TypeError: for a prior that is none, or rows in a sparse matrix.
        """
        x = self.x
        if mixture is not None:
            x = rows_for(mixture, x, self.sample_weight)
        elif not is_plain(x):
            x = read_rows(x, sample_weight=self.sample_weight)
        x = jax.tree.map(_on_device, x)
        dtype = _precision(x)
        weight = _weight(self.sample_weight, _n_rows(x), dtype)
        whole = self.prior is None or isinstance(self.prior, Prior)
        prior = self.prior if whole else Prior.of(self.prior)
        # typed arrays: a Python number is weakly typed, and would be another program
        epsilon, coupling, prior, frame = (
            jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), given, is_leaf=_is_list)
            for given in (self.epsilon, self.coupling, prior, self.frame)
        )
        gated = mixture is not None and mixture.components.gated
        learns = False if gated else self.learn_weights
        return Problem(cast(x, dtype), weight, epsilon, coupling, prior, learns, frame)

    @property
    def row_weight(self) -> Float[Array, " n"]:
        """A [n]: the weights divided by their sum; all zero if no row is present."""
        if self.sample_weight is None:
            # no rows at all is a shape like others, and no division by 0
            return jnp.full((self.n_rows,), 1 / max(self.n_rows, 1), self.dtype)
        return normalize(jnp.asarray(self.sample_weight).astype(self.dtype))

    def rows(self) -> Rows:
        """The rows and a, as a pass over them takes them."""
        complete = self.sample_weight is None
        return rows_of(self.x, self.row_weight, self.frame, complete=complete)


def _precision(x: PyTree) -> jnp.dtype:
    real = [leaf for leaf in jax.tree.leaves(x) if is_float(leaf)]
    return jax.dtypes.canonicalize_dtype(jnp.result_type(*real) if real else float)


def _n_rows(x: PyTree) -> int:
    shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
    if isinstance(x, Array) and x.ndim != 2:
        hint = "; for one feature use x[:, None]" if x.ndim == 1 else ""
        raise ValueError(f"x must have two dimensions (n, d), not shape {x.shape}{hint}")
    if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"the columns of x need rows, all as many, not shapes {shapes}")
    return shapes[0][0]


def _weight(given: Any, n: int, dtype: Any) -> Array | None:
    if given is None:
        return None
    weight = given if is_plain(given) else numbers(given, "sample_weight")
    if weight.shape != (n,):
        raise ValueError(
            f"sample_weight must be {n} numbers, one per row of x, not shape {weight.shape}"
        )
    # counts through NumPy's floats: JAX may wrap large integers
    weight = weight if is_float(weight) else weight.astype(float)
    if isinstance(weight, np.ndarray) and weight.dtype != dtype and 0 < weight.max() < np.inf:
        weight = weight / weight.max()  # a narrower type may not hold their unit
    return jnp.asarray(weight).astype(dtype)


def _is_list(node: Any) -> bool:
    return isinstance(node, list | tuple)


def _on_device(leaf: AnyArray) -> Array:
    # One copy of NumPy's rows on the device, where asarray makes two.
    return jax.device_put(leaf) if isinstance(leaf, np.ndarray) else jnp.asarray(leaf)


@pytree
class Evaluation:
    """What a mixture's plan says, on all rows.

    Attributes:
        value: the transport value H_rho, in nats; by default the mean negative log-likelihood.
        mass: [k] the plan's sizes.
        statistics: the family's statistics under the plan.
        g: [k] the column potentials, where the next solve starts; 0 if semi-relaxed.
    """

    value: Array
    mass: Array
    statistics: PyTree
    g: Array


@pytree
class Objective:
    """Problem x engine: the only thing that a solver asks. It holds no state of a run.

    Attributes:
        rows: the rows, as a pass takes them.
        epsilon: see `Problem`.
        coupling: see `Problem`.
        prior: see `Problem`; a whole one.
        engine: how a pass over the rows is made; None chooses by shape.
        learns_weights: whether the proportions move.
    """

    rows: Rows
    epsilon: Array | float | None
    coupling: Coupling
    prior: Prior | None
    engine: Engine | None
    # static: the coordinates of an optimality condition depend on it
    learns_weights: bool = static()

    @classmethod
    def of(cls, problem: Problem, engine: Engine | None = None) -> "Objective":
        """The objective of a checked problem."""
        learns = problem.learn_weights
        learns = not problem.coupling.fixes_weights if learns is None else learns
        return cls(problem.rows(), problem.epsilon, problem.coupling, problem.prior, engine, learns)

    def check(self, mixture: Mixture) -> None:
        """Refuses, at trace time, what would be wrong without a word.

        Raises:
            ValueError: where the shapes of rows, sizes and mixture do not fit together.
            TypeError: for a prior that the family has no use for.
        """
        check_shapes(mixture, self.rows.x)
        sizes = getattr(self.coupling, "sizes", None)
        if sizes is not None and jnp.shape(sizes) != jnp.shape(mixture.log_weights):
            raise ValueError(
                f"the coupling's sizes have shape {jnp.shape(sizes)}, the mixture has "
                f"{mixture.n_components} components"
            )
        check_prior(mixture.components, self.prior)

    def engine_for(self, mixture: Mixture) -> Engine:
        """The engine, chosen by shape unless it was given."""
        weight = self.rows.weight
        return self.engine or choose(mixture.components, weight.shape[0], weight.dtype)

    def at(self, mixture: Mixture) -> Plan:
        """The transport problem at a mixture: its plan, not solved yet."""
        self.check(mixture)
        columns = Columns(self.coupling.reference(mixture.log_weights), None, self.epsilon)
        engine = self.engine_for(mixture)
        return Plan(self.rows, mixture.components, columns, self.coupling, engine)

    def evaluate(self, mixture: Mixture, start: Array | None = None) -> Evaluation:
        """Block 1: the plan of `mixture`, summed over the rows; potentials from `start`."""
        # known when compiling: no inner solve is in the program
        if self.coupling.free:
            engine = self.engine_for(mixture)
            columns = Columns(mixture.log_weights, None, self.epsilon)
            kernel = engine.kernel.of(columns, mixture.components)
            sweep = engine.execution.reduce(Partial(engine.kernel.sweep, kernel), self.rows)
            zeros = jnp.zeros_like(mixture.log_weights)
            return Evaluation(sweep.value, sweep.mass, sweep.statistics, zeros)
        plan = self.at(mixture).solve(start)
        sweep = plan.statistics(plan.g)
        return Evaluation(_unless_missed(plan, sweep.value), sweep.mass, sweep.statistics, plan.g)

    def value(self, mixture: Mixture) -> Float[Array, ""]:
        """The transport value, in nats; its derivative is taken in the same pass."""
        plan = self.at(mixture)
        if self.coupling.free:
            return value_of(plan.engine, plan.rows, plan.columns, plan.components)
        plan = plan.solve()
        return _unless_missed(plan, plan.dual(plan.g))

    def penalty(self, mixture: Mixture) -> Float[Array, ""] | float:
        """The prior's share of the objective."""
        penalty = mixture.components.penalty(self.prior)
        weights = self.prior and self.prior.weights
        return penalty if weights is None else penalty + weights.penalty(mixture.log_weights)

    def loss(self, mixture: Mixture) -> Float[Array, ""]:
        """Value plus penalty: what solvers minimise."""
        return self.value(mixture) + self.penalty(mixture)

    def surrogate(self, mixture: Mixture, evaluation: Evaluation, at: Mixture) -> Float[Array, ""]:
        """What `at` costs under the plan of `mixture`, up to a constant: no pass over the rows.

        At `mixture` itself its derivative is that of `loss`: moving the plan wins nothing there.
        Of a family whose statistics do not give its expected cost, `loss` itself.
        """
        mass = evaluation.mass
        expected = mixture.components.expected_cost(evaluation.statistics, mass, at.components)
        if expected is None:
            return self.loss(at)
        epsilon, rho = self.epsilon, jnp.asarray(self.coupling.penalty_strength(), mass.dtype)

        def share(logs: Array) -> Array:
            # an absent component has a logarithm of -inf, and no share
            return jnp.sum(jnp.where(mass > 0, mass * logs, 0))

        sizes = (1 if epsilon is None else epsilon) * share(at.log_weights)
        if not self.coupling.free:
            drawn = share(self.coupling.target(at.log_weights))
            sizes += jnp.where(jnp.isfinite(rho), rho, 0) * drawn
        return expected - sizes + self.penalty(at)

    def admissible(self, mixture: Mixture) -> Mixture:
        """The mixture, with the proportions that the coupling prescribes if it names sizes; equal
        ones where the cost has them in it.
        """
        if mixture.components.gated:
            alike = jnp.full_like(mixture.log_weights, -jnp.log(mixture.n_components))
            return replace(mixture, log_weights=alike)
        if not self.coupling.fixes_weights or self.learns_weights:
            return mixture
        return replace(mixture, log_weights=self.coupling.target(mixture.log_weights))

    def proportions(self, mass: Float[Array, " k"]) -> Float[Array, " k"]:
        """The proportions, up to their sum, that are best for the plan's sizes."""
        weights = self.prior and self.prior.weights
        return mass if weights is None else weights.maximize(mass)

    def likelihood(self) -> "Objective":
        """The same rows at epsilon = 1 with free sizes: maximum likelihood."""
        return replace(self, epsilon=None, coupling=SemiRelaxed())

    @property
    def is_likelihood(self) -> bool:
        """Whether this is maximum likelihood, known when compiling."""
        return self.epsilon is None and self.coupling.free


def _unless_missed(plan: Plan, value: Array) -> Array:
    """NaN, which no status calls converged, where a plan misses its sizes: it is no plan."""
    # and a NaN or negative rho is no penalty
    met = (plan.potential.residual < 1e-3) & (plan.coupling.penalty_strength() >= 0)  # type: ignore[union-attr]
    return jnp.where(met, value, jnp.nan)
