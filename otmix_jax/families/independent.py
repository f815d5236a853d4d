"""Components whose columns are independent, each of one exponential family.

    log p(x | theta_j) = sum_a [ sum_s t_s(x_a) eta_s(theta_ja) - e_a A(theta_ja) + log h(x_a) ]

A law says its sufficient statistics t, natural parameters eta, log-partition A and base measure h,
and which parameters have given means of t. Cost, kernel, M-step, start and missing cells follow.
The size e of a cell is 1, but for counts of so many trials or in so long a time.
"""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, PRNGKeyArray, PyTree

from ..core.numerics import matmul, safe_divide
from ..core.tree import is_float, pytree, replace, static
from ..priors import Prior
from .coordinates import learned
from .family import Description, Family
from .forms import LinearForm

LOSS = {"float64": 1e-9, "float32": 1e-3}
"""What the score of a row may lose to cancellation, in nats, by dtype."""
SHRUNK = 0.01
"""The share of all rows in the means of a start, which puts no parameter on its border."""


@pytree
class Independent(Family):
    """K products of d laws of one kind, with learned fields [k, d].

    Rows are a table [n, d]; where sizes are known, {"x": [n, d], beside: [n] or [n, d]}.

    Attributes:
        by_cell: whether cells have sizes of their own; NaN has size 0: it is integrated out.
    """

    by_cell: bool = static(default=False, kw_only=True)
    exact_m_step = True
    separable = True
    cancels: ClassVar[bool] = False
    """Whether the form loses the digits of large cells: then `log_cells` says the whole."""
    needs: ClassVar[str] = "real numbers"
    """The support in words, for messages."""

    @classmethod
    @abc.abstractmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Which cells [n, d] the law can hold, of NumPy's and JAX's arrays alike; not NaN."""

    @classmethod
    @abc.abstractmethod
    def of_means(cls, *means: Array, **options: Any) -> dict[str, Array]:
        """The learned fields [k, d] from the means of t per unit of size: the M-step."""

    @abc.abstractmethod
    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """t_s [n, d] of cells within the support."""

    @abc.abstractmethod
    def natural(self) -> tuple[Array, ...]:
        """eta_s [k, d], finite."""

    @abc.abstractmethod
    def log_partition(self) -> Float[Array, "k d"]:
        """A, in nats."""

    def base(self, x: Array, size: Array | float) -> Array | float:
        """Log h [n, d] of cells within the support."""
        del x, size
        return 0.0

    def log_cells(self, x: Array, size: Array) -> Array:
        """Log p [n, k, d] of cells [n, 1, d] within the support, to the last digit."""
        raise TypeError(f"{type(self).__name__} keeps the digits in its linear form")

    @classmethod
    def size(cls, **options: Any) -> float:
        """Of every cell, where the rows name none."""
        del options
        return 1.0

    @classmethod
    def spread(cls, x: Array, size: Any) -> Array:
        """Cells in coordinates where their distances mean something, for seeds."""
        del size
        return x

    def options(self) -> dict[str, Any]:
        """What the description says beside the class."""
        return {}

    @property
    def holds(self) -> frozenset[str]:  # type: ignore[override]
        """All fields together."""
        return frozenset(field.name for field in learned(self))

    @property
    def n_features(self) -> int:
        """The width d of a row."""
        return self._first.shape[-1]

    @property
    def _first(self) -> Array:
        return getattr(self, learned(self)[0].name)

    @classmethod
    def split(cls, x: PyTree, **options: Any) -> tuple[Any, Any]:
        """Cells [n, d], and their sizes: [n, d], [n, 1], or one number."""
        if not isinstance(x, dict):
            return x, cls.size(**options)
        size: Any = x[cls.beside] if cls.beside in x else cls.size(**options)
        return x["x"], size[:, None] if getattr(size, "ndim", 0) == 1 else size

    def read(self, x: PyTree) -> tuple[Array, Array, Array, Array]:
        """Cells [n, d], their sizes, which are there, and which of these the law can hold.

        What it cannot hold is replaced.
        """
        dtype = self._first.dtype
        cells, size = (jnp.asarray(a).astype(dtype) for a in self.split(x, **self.options()))
        there = ~jnp.isnan(cells) if self.by_cell else jnp.ones(cells.shape, bool)
        # twice `where`: what a cell off the support would give has a derivative of NaN
        sound = there & self.inside(cells, size)
        return jnp.where(sound, cells, self.inner_point(cells)), size, there, sound

    def features(self, x: PyTree) -> tuple[Array, tuple[Array, ...], Array]:
        """Sizes [n, d] (0 of a missing cell), t_s [n, d] (0 there), and log h by row [n]."""
        safe, size, there, sound = self.read(x)
        base = jnp.where(sound, self.base(safe, size), jnp.where(there, -jnp.inf, 0))
        terms = tuple(jnp.where(sound, t, 0) for t in self.sufficient(safe))
        return jnp.where(there, size, 0), terms, jnp.sum(base.astype(safe.dtype), axis=1)

    @classmethod
    def inner_point(cls, x: Any) -> Any:
        """What stands in the place of cells that the law cannot hold."""
        return jnp.ones_like(x)

    def linear_form(self) -> "IndependentForm":
        """T(x) = (1, t), with the log-partition in the constant; by cell, T(x) = (1, e, t)."""
        partition = self.log_partition()
        total = jnp.sum(partition, axis=1, keepdims=True) * self.size(**self.options())
        head = [jnp.zeros_like(total), -partition] if self.by_cell else [-total]
        return IndependentForm(jnp.concatenate([*head, *self.natural()], axis=1), self)

    def cost(self, x: PyTree) -> Float[Array, "n k"]:
        """C_ij = -log p(x_i | theta_j), in nats."""
        if not self.cancels:
            return self.linear_form().costs(x)
        cells, size, there, sound = self.read(x)
        cells, size = (a[:, None] for a in (cells, jnp.broadcast_to(size, cells.shape)))
        beyond = jnp.where(there, -jnp.inf, 0)[:, None]
        return -jnp.sum(jnp.where(sound[:, None], self.log_cells(cells, size), beyond), axis=-1)

    def statistics(self, x: PyTree, plan: Float[Array, "n k"]) -> "Sums":
        """Sums of t, and of the sizes where cells have their own."""
        form = self.linear_form()
        return form.statistics(matmul(plan.T, form.sufficient_statistics(x)), None)

    def maximize(
        self,
        statistics: "Sums",
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> Any:
        """The law whose means of t are those of the component's rows."""
        del prior
        if held:
            return self
        options = self.options()
        alike = mass[:, None] * self.size(**options)
        size = alike if statistics.size is None else statistics.size
        moved = self.of_means(*(safe_divide(t, size) for t in statistics.terms), **options)
        new = {n: jnp.where(size > 0, value, getattr(self, n)) for n, value in moved.items()}
        return replace(self, **new)

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`: sums of t have no pivot."""
        del mass, onto
        return statistics

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; the whole, by natural parameters."""
        alike = mass[:, None] * self.size(**self.options())
        size = alike if statistics.size is None else statistics.size
        parts = [size * at.log_partition()]
        parts += [-t * eta for t, eta in zip(statistics.terms, at.natural(), strict=True)]
        # an absent component may hold anything
        return sum(jnp.sum(jnp.where(size > 0, part, 0)) for part in parts)

    @classmethod
    def initial(
        cls, x: PyTree, plan: Float[Array, "n k"], missing: bool = False, **options: Any
    ) -> Any:
        """The means of the assigned rows, drawn a little to those of all."""
        shape = plan.shape[1], cls.split(x, **options)[0].shape[1]
        # the features depend on no parameter
        nothing = {f.name: jnp.ones(shape, plan.dtype) for f in learned(cls)}
        blank = cls(**nothing, by_cell=missing or isinstance(x, dict), **options)
        size, *terms = (matmul(plan.T, t) for t in jnp.broadcast_arrays(*blank.cells(x)))
        total = jnp.sum(size, axis=0)

        def pooled(t: Array) -> Array:
            everywhere = safe_divide(jnp.sum(t, axis=0), total)
            own = jnp.where(size > 0, safe_divide(t, size), everywhere)
            return (1 - SHRUNK) * own + SHRUNK * everywhere

        return replace(blank, **cls.of_means(*map(pooled, terms), **options))

    def impute(
        self, x: PyTree, share: Float[Array, "n k"], key: PRNGKeyArray | None = None
    ) -> PyTree:
        """See `Family.impute`."""
        cells, size = self.split(x, **self.options())
        there = ~jnp.isnan(jnp.asarray(cells, self._first.dtype))
        if key is None:
            # moments are of the size that rows have where they name none
            mean = matmul(share, self.moments()[0]) * (size / self.size(**self.options()))
        else:
            given = x.get(self.beside) if isinstance(x, dict) else None
            mean = self.sample(key, jnp.argmax(share, axis=1), given)
        filled = jnp.where(there, cells, mean)
        return {**x, "x": filled} if isinstance(x, dict) else filled

    def cells(self, x: PyTree) -> tuple[Array, ...]:
        """Sizes and t_s, each [n, d]."""
        size, terms, _ = self.features(x)
        return size, *terms

    @classmethod
    def incomplete(cls, **options: Any) -> Description:
        """See `Family.incomplete`."""
        return Description(cls, tuple(sorted({**options, "missing": True}.items())))

    def described(self) -> Description:
        """See `Family.described`."""
        missing = {"missing": True} if self.by_cell else {}
        return Description(type(self), tuple(sorted({**self.options(), **missing}.items())))

    @classmethod
    def embed(cls, x: PyTree, missing: bool = False, **options: Any) -> Float[Array, "n e"]:
        """See `Family.embed`; a missing cell stands at its column's mean."""
        del missing
        cells, size = cls.split(x, **options)
        cells = jnp.asarray(cells)
        cells = cells if is_float(cells) else cells.astype(float)
        sound = ~jnp.isnan(cells)
        columns = cls.spread(jnp.where(sound, cells, cls.inner_point(cells)), size)
        # a column may be spread over several, side by side
        sound = jnp.tile(sound, (1, columns.shape[1] // sound.shape[1]))
        count = jnp.maximum(jnp.sum(sound, axis=0), 1)
        return jnp.where(sound, columns, jnp.sum(jnp.where(sound, columns, 0), axis=0) / count)

    @classmethod
    def check(cls, x: Any, missing: bool = False, **options: Any) -> None:
        """Cells within the support.

        Raises:
            ValueError: naming the first cell that is none.
        """
        names = {"x", cls.beside} - {""}
        if isinstance(x, dict) and not {"x"} <= set(x) <= names:
            raise ValueError(f"{cls.__name__} takes a dict of {sorted(names)}, not {sorted(x)}")
        cells, size = cls.split(x, **options)
        with np.errstate(invalid="ignore"):
            bad = np.asarray(~cls.inside(cells, size))
        bad = bad & ~np.isnan(np.asarray(cells, float)) if missing else bad
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ValueError(
                f"a {cls.__name__} family needs {cls.needs}; row {row}, column {column} holds "
                f"{np.asarray(cells)[row, column]}"
            )


@pytree
class Sums:
    """Sums over rows, weighted by the plan: additive.

    Attributes:
        size: [k, d] of the cells, where they have sizes of their own; else None.
        terms: [k, d] for each t_s.
    """

    size: Array | None
    terms: tuple[Array, ...]


@pytree
class IndependentForm(LinearForm):
    """Independent columns, linear in the sufficient statistics of each."""

    natural_parameters: Array
    components: Any

    @property
    def guarded(self) -> bool:  # type: ignore[override]
        """Where large cells lose digits."""
        return self.components.cancels

    def safe(self) -> Bool[Array, ""]:
        """The rows decide, with the parameters."""
        return jnp.asarray(True)

    def reaches(self, x: PyTree) -> Bool[Array, ""]:
        """Whether no score of these rows adds terms so large that rounding shows."""
        return self.rounding(x) <= LOSS.get(self.natural_parameters.dtype.name, 1e-2)

    def rounding(self, x: PyTree) -> Float[Array, ""]:
        """What the score of any of these rows may lose to cancellation, in nats."""
        features = jnp.max(jnp.abs(self.sufficient_statistics(x)), axis=0)
        eta = jax.lax.stop_gradient(self.natural_parameters)
        # an absent component may hold anything
        largest = jnp.max(jnp.where(jnp.isfinite(eta), jnp.abs(eta), 0), axis=0)
        return float(jnp.finfo(eta.dtype).eps) * jnp.sum(features * largest)

    def sufficient_statistics(self, x: PyTree) -> Float[Array, "n f"]:
        """See `Independent.linear_form`."""
        size, *terms = self.components.cells(x)
        head = [size] if self.components.by_cell else []
        return jnp.concatenate([jnp.ones_like(size[:, :1]), *head, *terms], axis=1)

    def log_base_measure(self, x: PyTree) -> Float[Array, " n"]:
        """Log h of the row; -inf off the support."""
        return self.components.features(x)[2]

    def statistics(self, sums: Float[Array, "k f"], total: None) -> Sums:
        """The sums, term by term."""
        del total
        d = self.components.n_features
        parts = [sums[:, i : i + d] for i in range(1, sums.shape[1], d)]
        return Sums(parts.pop(0) if self.components.by_cell else None, tuple(parts))


def floored(value: Array) -> Array:
    """Probabilities and rates above 0, by what no sum feels: their logarithms are finite.

    On the way to 0 EM takes equal steps in the logarithm, without end: below the square of a
    rounding error it stands still.
    """
    return jnp.maximum(value, float(jnp.finfo(value.dtype).eps) ** 2)
