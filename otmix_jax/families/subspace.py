"""Components of rows some of whose columns follow from the others, or never vary."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from ..core.numerics import einsum, matmul
from ..core.tree import parameter, pytree, replace, static
from ..priors import Prior
from .answers import read_columns, read_values
from .coordinates import NESTED
from .elliptical import Gaussian
from .family import Description, Family


@pytree
class Subspace(Family):
    """A law of some columns; the others are linear in them, up to noise that all components share.

    `fit` and `select` return it where columns say nothing about groups. Densities, and so all
    likelihoods and criteria, are per unit of the columns `kept`: what the others hold is not read,
    so nothing depends on their values, units or number. `mean`, `matrices` and draws have all.

    Attributes:
        inner: the components, of the columns `kept`.
        slopes: [d', d] every column as a combination of those kept.
        intercept: [d]
        noise: [d] standard deviation of what a column is beside that; 0 where it follows.
        kept: the columns that vary, each in its own direction.
    """

    inner: Any = parameter(NESTED)
    slopes: Array
    intercept: Array
    noise: Array
    kept: tuple[int, ...] = static()

    def described(self) -> Description:
        """The inner family's."""
        return self.inner.described()

    @property
    def exact_m_step(self) -> bool:  # type: ignore[override]
        """The inner family's."""
        return self.inner.exact_m_step

    def reported(self) -> dict[str, Any]:
        """See `Answers.reported`: of all columns."""
        return {"mean": self.mean, "covariance": self.matrices()}

    @property
    def n_components(self) -> int:
        """K."""
        return self.inner.n_components

    @property
    def n_parameters(self) -> int:
        """The inner family's: the others are no choice."""
        return self.inner.n_parameters

    @property
    def n_features(self) -> int:
        """The width d of a row, all columns counted."""
        return self.slopes.shape[-1]

    @property
    def covariance(self) -> Any:
        """Of the columns kept; `matrices` has all."""
        return self.inner.covariance

    @property
    def mean(self) -> Float[Array, "*b k d"]:
        """All columns' means; also of a batch of mixtures."""
        return jnp.matmul(
            self.inner.mean, self.slopes, precision=jax.lax.Precision.HIGHEST
        ) + jnp.expand_dims(self.intercept, -2)

    def matrices(self) -> Float[Array, "k d d"]:
        """All columns' covariances: singular where the rows are."""
        told = einsum("kab,ac,bd->kcd", self.inner.matrices(), self.slopes, self.slopes)
        return told + jnp.diag(self.noise**2)

    def _read(self, x: Array) -> Array:
        return x[..., jnp.asarray(self.kept)]

    def cost(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """That of the columns kept."""
        return self.inner.cost(self._read(x))

    def prepared_cost(self) -> Partial:
        """The inner family's."""
        return Partial(_of_kept, self.inner.prepared_cost(), jnp.asarray(self.kept))

    def statistics(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> Any:
        """The inner family's."""
        return self.inner.statistics(self._read(x), plan)

    def maximize(
        self,
        statistics: Any,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Subspace":
        """The inner family's; priors are on the columns kept, and none is taken here."""
        del prior
        inner = self.inner if "inner" in held else self.inner.maximize(statistics, mass)
        return replace(self, inner=inner)

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; the inner family's."""
        return self.inner.expected_cost(statistics, mass, at.inner)

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`; the inner family's."""
        return self.inner.recentred(statistics, mass, onto.inner)

    def imprecise(self) -> Bool[Array, " k"]:
        """The inner family's."""
        return self.inner.imprecise()

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Draws of the columns kept, and what the others are then."""
        own, other = jax.random.split(key)
        told = matmul(self.inner.sample(own, labels, given), self.slopes) + self.intercept
        return told + self.noise * jax.random.normal(other, told.shape, told.dtype)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`; of all columns."""
        mean, spread = self.inner.moments()
        spread = spread if spread.ndim == 3 else jax.vmap(jnp.diag)(spread)
        told = einsum("kab,ac,bd->kcd", spread, self.slopes, self.slopes)
        return matmul(mean, self.slopes) + self.intercept, told + jnp.diag(self.noise**2)

    def marginal(self, columns: Any) -> Any:
        """See `Answers.marginal`; of columns kept.

        Raises:
            TypeError: for a column that follows from others, which has no density of its own.
        """
        return self.inner.marginal(self._places(read_columns(self, columns)))

    def condition(self, values: Any) -> tuple[Float[Array, " k"], "Subspace"]:
        """See `Answers.condition`; columns kept are given, and the law is of all the others.

        Raises:
            TypeError: for a column that follows from others.
        """
        given, rest, row = read_values(self, values)
        places = self._places(given)
        density, inner = self.inner.condition(dict(zip(places, row, strict=True)))
        free = np.array([i for i in range(len(self.kept)) if i not in places])
        which = np.array(rest)
        told = matmul(row.astype(self.slopes.dtype), self.slopes[np.array(places)])
        law = Subspace(
            inner,
            self.slopes[free[:, None], which],
            (self.intercept + told)[which],
            self.noise[which],
            kept=tuple(rest.index(self.kept[i]) for i in free.tolist()),
        )
        return density, law

    def _places(self, columns: tuple[int, ...]) -> tuple[int, ...]:
        follows = [column for column in columns if column not in self.kept]
        if follows:
            raise TypeError(
                f"column {follows[0]} follows from columns {list(self.kept)}, and has no density "
                "of its own: name some of these"
            )
        return tuple(self.kept.index(column) for column in columns)

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`; of a single column."""
        return self.inner.cdf(x)

    def take(self, which: Any) -> "Subspace":
        """See `Family.take`."""
        return replace(self, inner=self.inner.take(which))

    @classmethod
    def initial(cls, x: Any, plan: Any, **options: Any) -> "Subspace":
        """None: `fit` finds the columns.

        Raises:
            TypeError: always.
        """
        raise TypeError("Subspace is what a fit returns: fit the family itself")

    @classmethod
    def examples(cls) -> dict[str, "Subspace"]:
        """Two columns kept of four: the others a constant and a sum."""
        inner = Gaussian.examples()
        slopes = jnp.array([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
        intercept = jnp.array([0.0, 7.0, 0.0, -1.0])
        rest = slopes, intercept, jnp.zeros(4)
        return {n: cls(inner[n], *rest, kept=(0, 2)) for n in ("full", "spherical")}


def _of_kept(cost: Any, kept: Any, x: Array) -> Array:
    return cost(x[..., kept])
