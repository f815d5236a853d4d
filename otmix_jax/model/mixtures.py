"""The fitted object: proportions and components."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from ..core.buckets import bucket, cut, filled, on_host
from ..core.compiling import is_traced
from ..core.files import Saved
from ..core.numerics import log_proportions, logsumexp, normalize, normalize_log, proportions
from ..core.reading import read_rows
from ..core.tree import cast, is_float, is_plain, pytree, replace
from ..core.typing import AnyArray
from ..engine import Columns, Kernel, Rows, choose
from ..engine.engine import SMALLEST
from ..families.checks import check_columns
from ..families.coordinates import Frame
from ..families.family import Family
from . import conditionals, display, distribution, imputation, moments, parameters
from . import modes as climbs
from .modes import Modes


@pytree
class Mixture(Saved):
    """p(x) = sum_j pi_j p(x | theta_j).

    Attributes:
        log_weights: [k] log pi, normalised; -inf marks an absent component.
        components: the K components, a `Family`, for example a `Gaussian`.

    Example:
        >>> import jax.numpy as jnp
        >>> from otmix_jax import Mixture
        >>> from otmix_jax.families import Gaussian, Spherical
        >>> components = Gaussian(jnp.array([[0.0], [4.0]]), Spherical(jnp.array([1.0, 1.0])))
        >>> mixture = Mixture.from_weights(jnp.array([0.25, 0.75]), components)
        >>> mixture.predict(jnp.array([[0.1], [3.9]])).tolist()
        [0, 1]
    """

    log_weights: Array
    components: Any
    _repr_html_ = display.mixture_page

    def __repr__(self) -> str:
        return display.mixture_line(self)

    @classmethod
    def from_weights(cls, weights: Float[AnyArray, " k"], components: Family) -> "Mixture":
        """A mixture from proportions, which are divided by their sum; 0 is allowed.

        A proportion of 0 has the one-sided derivative in the density, the likelihood and the
        responsibilities: what the component would win, N_j(x) / p(x) - 1 of log p(x). It counts
        as out of reach where its parameters are not finite, and under a coupling that is not free.
        Second derivatives in weights are right too; mixed with the rows or its own parameters,
        take the weights first.
        """
        return cls(log_proportions(normalize(jnp.asarray(weights))), components)

    @property
    def weights(self) -> Float[Array, "*batch k"]:
        """The proportions pi [k]; of a batch of mixtures [batch, k]."""
        return proportions(self.log_weights)

    @property
    def n_components(self) -> int:
        """K."""
        return self.components.n_components

    @property
    def n_parameters(self) -> int:
        """Free parameters: the components' and K - 1 proportions, if the cost has none in it."""
        proportions = 0 if self.components.gated else self.n_components - 1
        return self.components.n_parameters + proportions

    def log_prob(self, x: PyTree) -> Float[Array, " n"]:
        """Log-density of each row [n], in nats; -f of the note's plan at epsilon = 1.

        Raises:
            ValueError: at trace time too, for rows that are no real numbers, or of other columns
                than the mixture describes; for masked or missing cells.
            TypeError: for a sparse matrix.
        """
        return _by_row(self, x, _log_density)

    def responsibilities(self, x: PyTree) -> Float[Array, "n k"]:
        """P(component | row) [n, k]: the note's plan (3.2) with each row divided by its weight.

        Rows sum to 1; a row beyond the reach of floating point follows the proportions.
        """
        return _by_row(self, x, _conditional)

    def predict(self, x: PyTree) -> Int[Array, " n"]:
        """The most probable component of each row [n]."""
        return _by_row(self, x, _label)

    def sample(
        self, key: PRNGKeyArray, n: int, given: PyTree = None, *, labels: bool = False
    ) -> PyTree:
        """`n` independent rows, shaped as the family's; `n` is static under jit.

        Args:
            key: a typed PRNG key.
            n: how many.
            given: [n] rows of what a conditional family conditions on.
            labels: whether to return (rows, [n] the component of each).
        """
        label_key, row_key = jax.random.split(key)
        log_weights = self.components.log_proportions(self.log_weights, given)
        which = jax.random.categorical(label_key, log_weights, shape=(n,))
        rows = self.components.sample(row_key, which, given)
        return (rows, which) if labels else rows

    def impute(self, x: PyTree, key: PRNGKeyArray | None = None) -> PyTree:
        """Rows with what their other cells say of the missing ones (NaN): conditional means.

        With a key, draws from the conditional law: several make a multiple imputation.
        """
        return imputation.impute(self, rows_for(self, x), key)

    @property
    def mean(self) -> PyTree:
        """E X = sum_j pi_j mu_j: [d], or a dict of parts.

        Raises:
            TypeError: for a family without moments, here and for `covariance`.
        """
        return moments.mean(self)

    @property
    def covariance(self) -> PyTree:
        """Cov X = sum_j pi_j (Sigma_j + (mu_j - EX)(mu_j - EX)^T): [d, d].

        Of rows that are a dict, a dict of dicts: `covariance["a"]["b"]` is Cov(X_a, X_b).
        """
        return moments.covariance(self)

    def marginal(self, columns: Any) -> "Mixture":
        """The law of some columns [m], in the order given; of a dict's, by names.

        Raises:
            ValueError: for a column that is not there, or named twice.
            TypeError: for a family without margins.
        """
        return replace(self, components=self.components.marginal(columns))

    def condition(self, values: Mapping[Any, Any]) -> "Mixture":
        """The law of the other columns, in their order, given the values of some.

        With Gaussians, `joint.condition({0: 1.5}).mean` is Gaussian mixture regression. For many
        values: `jax.vmap(lambda v: joint.condition({0: v}).mean)(values)`.

        Args:
            values: one number for each given column; or a part's row by its name.

        Raises:
            ValueError: for a column that is not there, or if none is left.
            TypeError: for a family without conditionals.
        """
        return conditionals.condition(self, values)

    def cdf(self, x: Float[AnyArray, " *n"] | float) -> Float[Array, " *n"]:
        """P(X <= x), of a mixture of one column; for others see `marginal`.

        Raises:
            ValueError: for several columns.
            TypeError: for a family without a distribution function.
        """
        distribution.check_single(self)
        return distribution.cdf(self, jnp.asarray(x))

    def quantile(self, q: Float[AnyArray, " *n"] | float) -> Float[Array, " *n"]:
        """The least x with P(X <= x) >= q, to the last bit; -inf for q = 0, NaN off [0, 1].

        Differentiable in q and in the mixture. Raises as `cdf` does.
        """
        distribution.check_single(self)
        return distribution.quantile(self, jnp.asarray(q, self.log_weights.dtype))

    def density_levels(
        self, x: PyTree, probability: Any = (0.25, 0.5, 0.75)
    ) -> Float[Array, " *m"]:
        """Densities [m] above which lie these shares of the rows, as mclust's `hdrlevels`.

        Of the fitted rows, or of `mixture.sample(key, n)` for the mixture's own regions of highest
        density. The quantile of n densities is interpolated linearly.
        """
        share = jnp.asarray(probability, self.log_weights.dtype)
        return distribution.density_levels(self.log_prob(x), share)

    def modes(self) -> Modes:
        """Peaks of the density, each reached by a climb from a component's mean; on the host.

        In more than one column a mixture may have further ones.

        Raises:
            TypeError: for a family that is not elliptical.

        Source: Carreira-Perpinan (2000), IEEE Trans. PAMI 22.
        """
        return climbs.modes(self)

    def out_of(self, frame: Frame) -> "Mixture":
        """The law of X, this being the law of `frame.into(X)`.

        Raises:
            TypeError: for a family that is not closed under such frames.
        """
        # a frame may come from the host in float64, which would promote float32 parameters
        return replace(self, components=self.components.out_of(cast(frame, self.log_weights.dtype)))

    def take(self, which: Any) -> "Mixture":
        """The components with these indices, in this order, their proportions normalised."""
        log_weights = normalize_log(self.log_weights[which])
        return Mixture(log_weights, self.components.take(which))

    def table(self, names: Sequence[str] = ()) -> Any:
        """A data frame with a row for each component: its weight and its parameters.

        Covariances are matrices, not the factors that are stored; of symmetric ones the lower
        triangle is there. What all components share is repeated.

        Args:
            names: of the d columns, for "mean[length]" in the place of "mean[0]".

        Returns:
            A pandas DataFrame, or one of polars where only that is installed.

        Raises:
            ImportError: where neither is.
            ValueError: within `jit`, and for a batch of mixtures.
        """
        return parameters.table(self, names)

    def constrain(self, coordinates: dict) -> "Mixture":
        """The mixture at unconstrained `coordinates` about this one; zeros give this one."""
        # selected: an absent component stays so, and its coordinate moves nothing, exactly
        absent = self.log_weights == -jnp.inf
        moved = jnp.where(absent, -jnp.inf, self.log_weights + coordinates["log_weights"])
        # Relative to this mixture's own sum, so that zeros move no bit.
        excess = logsumexp(moved, axis=0) - logsumexp(self.log_weights, axis=0)
        log_weights = moved - excess
        return replace(
            self,
            log_weights=log_weights,
            components=self.components.constrain(coordinates["components"]),
        )

    def unconstrained(self, origin: "Mixture") -> dict:
        """The coordinates of this mixture about `origin`, which has the same absent components."""
        # -inf - -inf is NaN: an absent component has difference 0
        present = self.log_weights > -jnp.inf
        difference = jnp.where(present, self.log_weights, 0) - jnp.where(
            origin.log_weights > -jnp.inf, origin.log_weights, 0
        )
        return {
            "log_weights": difference,
            "components": self.components.unconstrained(origin.components),
        }


def _log_density(kernel: Kernel, x: PyTree, a: Array) -> Array:
    del a
    return -kernel.potential(x)


def _conditional(kernel: Kernel, x: PyTree, a: Array) -> Array:
    del a
    return kernel.rows(x)[1]


def _label(kernel: Kernel, x: PyTree, a: Array) -> Array:
    del a
    return jnp.argmax(kernel.rows(x)[1], axis=1)


def rows_for(mixture: Mixture, x: PyTree, sample_weight: Any = None) -> PyTree:
    """Rows as arrays of real numbers, in the columns that a mixture describes: the one check of
    all functions of a mixture and rows, by shapes and types alone, so that it holds under jit.

    Raises:
        ValueError: for rows that are no such columns, or hidden or missing cells.
        TypeError: for a sparse matrix.
    """
    if not is_plain(x):
        table, missing = mixture.components.table, mixture.components.described().missing
        x = read_rows(x, table=table, sample_weight=sample_weight, missing=missing)
    check_shapes(mixture, x)
    return x


def check_shapes(mixture: Mixture, x: PyTree) -> None:
    """Refuses rows of other columns than a mixture describes, and a mixture of two sizes.

    Raises:
        ValueError: saying both.
    """
    count, shape = mixture.components.n_components, jnp.shape(mixture.log_weights)
    if len(shape) > 1:
        raise ValueError(
            f"the mixture is a batch, its proportions have shape {shape}: take one, such as "
            "batch[0].mixture, or use jax.vmap"
        )
    if shape != (count,):
        raise ValueError(f"the mixture has proportions of shape {shape} for {count} components")
    check_columns(mixture.components, x)


def _by_row(mixture: Mixture, x: PyTree, tile: Callable[..., Array]) -> Array:
    x = rows_for(mixture, x)
    n = jax.tree.leaves(x)[0].shape[0]
    if on_host(x) and not is_traced(mixture):
        # few rows have a kernel of their own, whose digits a bucket of more would not have
        x = filled(x, SMALLEST if n <= SMALLEST < bucket(n) else bucket(n))
    # functions of the module: a lambda would be compiled anew at each call
    return cut(_tile_by_tile(mixture, jax.tree.map(jnp.asarray, x), tile), n)


@functools.partial(jax.jit, static_argnums=2)
def _tile_by_tile(mixture: Mixture, x: PyTree, tile: Callable[..., Array]) -> Array:
    real = [leaf for leaf in jax.tree.leaves(x) if is_float(leaf)]
    dtype = jnp.result_type(mixture.log_weights, *real)
    x = x.astype(dtype) if isinstance(x, Array) else cast(x, dtype)
    n = jax.tree.leaves(x)[0].shape[0]
    engine = choose(mixture.components, n, dtype)
    kernel = engine.kernel.of(Columns(mixture.log_weights), mixture.components)
    return engine.execution.map(Partial(tile, kernel), Rows(x, jnp.ones(n, dtype)))
