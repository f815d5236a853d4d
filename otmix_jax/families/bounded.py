"""Laws of shares: beta by column, and Dirichlet of whole rows.

With n the sum of the shapes a_i and m_i = a_i / n, and 1 - x the second share of a beta law,

    log p(x) = log Gamma(n) - sum log Gamma(a_i) - n KL(m | x) + n sum m_i log m_i - sum log x_i

Source: Johnson, Kotz and Balakrishnan (1995), Continuous Univariate Distributions, volume 2.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import betainc, gammaln
from jaxtyping import Float, Int, PRNGKeyArray

from ..core.counting import deviance, peak
from ..core.tree import parameter, pytree
from .chance import log_ball
from .concentration import dirichlet_shapes, largest_sum, log_ratio
from .coordinates import POSITIVE
from .family import Description, Family
from .shaped import Shaped

SUMS = 1e-6
"""How far from 1 the shares of a row may sum to."""


def _stirling(z: Array) -> Array:
    """Log Gamma(z) - (z log z - z)."""
    return -peak(z) - jnp.log(z)


class Bounded(Shaped):
    """Laws whose width is one over the root of their shapes' sum."""

    @classmethod
    def least_width(cls, dtype: Any) -> float:
        """See `Shaped.least_width`."""
        return largest_sum(dtype) ** -0.5


@pytree
class Beta(Bounded):
    """K products of beta laws on (0, 1): log p = (a - 1) log x + (b - 1) log(1 - x) - log B(a, b).

    Attributes:
        alpha: [k, d] a, the shape at 0.
        beta: [k, d] b, the shape at 1; the mean is a / (a + b).
    """

    alpha: Array = parameter(POSITIVE)
    beta: Array = parameter(POSITIVE)
    needs = "numbers between 0 and 1, both excluded (0 and 1 have no finite density)"

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Numbers within (0, 1)."""
        del size
        return (x > 0) & (x < 1)

    @classmethod
    def inner_point(cls, x: Any) -> Any:
        """The middle."""
        return jnp.full_like(x, 0.5)

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """Log x and log(1 - x)."""
        return jnp.log(x), jnp.log1p(-x)

    def natural(self) -> tuple[Array, ...]:
        """The shapes."""
        return self.alpha, self.beta

    def log_partition(self) -> Float[Array, "k d"]:
        """Log B(a, b)."""
        return gammaln(self.alpha) + gammaln(self.beta) - gammaln(self.alpha + self.beta)

    def base(self, x: Array, size: Any) -> Array:
        """-log x - log(1 - x)."""
        del size
        return -jnp.log(x) - jnp.log1p(-x)

    def _beyond(self, x: Array) -> tuple[Array, Array, Array]:
        """The means of both shares, and x less its own, taken at the nearer end."""
        n = self.alpha + self.beta
        first, second = self.alpha / n, self.beta / n
        return first, second, jnp.where(first < second, x - first, second - (1 - x))

    def log_cells(self, x: Array, size: Any) -> Array:
        """By the divergence of the means from the cell."""
        a, b = self.alpha, self.beta
        n, gap = a + b, (a + b) * self._beyond(x)[2]
        divergence = deviance(a, n * x, -gap) + deviance(b, n * (1 - x), gap)
        return _stirling(n) - _stirling(a) - _stirling(b) - divergence + self.base(x, size)

    def about(self, x: Array) -> tuple[Array, ...]:
        """Logarithms of both shares over their means."""
        first, second, gap = self._beyond(x)
        return log_ratio(x, first, gap), log_ratio(1 - x, second, -gap)

    def shifted(self, size: Array | float, *sums: Array) -> tuple[Array, ...]:
        """See `Shaped.shifted`."""
        n = self.alpha + self.beta
        means = self.alpha / n, self.beta / n
        return tuple(s - size * jnp.log(m) for s, m in zip(sums, means, strict=True))

    def carried(self, onto: Any, size: Array, *sums: Array) -> tuple[Array, ...]:
        """See `Shaped.carried`."""
        ratio = (onto.alpha + onto.beta) / (self.alpha + self.beta)
        alpha, beta = ratio * self.alpha / onto.alpha, ratio * self.beta / onto.beta
        return sums[0] + size * jnp.log(alpha), sums[1] + size * jnp.log(beta)

    def around(self, *means: Array) -> dict[str, Array]:
        """The shapes of these expected logarithms."""
        origin = jnp.stack([self.alpha, self.beta], axis=-1)
        shapes = dirichlet_shapes(jnp.stack(means, axis=-1), origin)
        return {"alpha": shapes[..., 0], "beta": shapes[..., 1]}

    def width(self) -> Float[Array, "k d"]:
        """One over the root of the shapes' sum."""
        return 1 / jnp.sqrt(self.alpha + self.beta)

    @classmethod
    def spread(cls, x: Array, size: Any) -> Array:
        """Log-odds."""
        del size
        return jnp.log(x) - jnp.log1p(-x)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`."""
        n = self.alpha + self.beta
        return self.alpha / n, (self.alpha / n) * (self.beta / n) / (n + 1)

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`."""
        within = jnp.clip(x, 0, 1)[:, None]
        a, b, z = jnp.broadcast_arrays(self.alpha[:, 0], self.beta[:, 0], within)
        return betainc(a, b, z)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Numbers within (0, 1)."""
        del given
        shapes = jnp.stack([self.alpha[labels], self.beta[labels]])
        return _shares(key, shapes, axis=0)[0]

    @classmethod
    def examples(cls) -> dict[str, "Beta"]:
        """Three components of two columns."""
        alpha = jnp.array([[2.0, 0.7], [9.0, 4.0], [0.9, 30.0]])
        return {"shares": cls(alpha, jnp.array([[5.0, 0.6], [3.0, 4.0], [3.0, 20.0]]))}


@pytree
class Dirichlet(Bounded):
    """K Dirichlet laws of rows of d shares, > 0 and of sum 1; a density of the first d - 1 of them.

    Attributes:
        concentration: [k, d] a; the means are a over its sum.
    """

    concentration: Array = parameter(POSITIVE)
    separable = False
    needs = "numbers > 0 that sum to one in each row"

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Numbers > 0 of a row that sums to 1, up to rounding."""
        del size
        slack = max(SUMS, 16 * x.shape[-1] * float(jnp.finfo(x.dtype).eps))
        return (x > 0) & (abs(x.sum(axis=-1, keepdims=True) - 1) <= slack)

    @classmethod
    def inner_point(cls, x: Any) -> Any:
        """The middle."""
        return jnp.full_like(x, 1 / x.shape[-1])

    @property
    def _total(self) -> Float[Array, "k 1"]:
        return jnp.sum(self.concentration, axis=-1, keepdims=True)

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """Log x."""
        return (jnp.log(x),)

    def natural(self) -> tuple[Array, ...]:
        """The concentration."""
        return (self.concentration,)

    def log_partition(self) -> Float[Array, "k d"]:
        """Log Gamma(a_i), and minus log Gamma of the sum dealt out to the columns."""
        return gammaln(self.concentration) - gammaln(self._total) / self.n_features

    def base(self, x: Array, size: Any) -> Array:
        """-log x."""
        del size
        return -jnp.log(x)

    def log_cells(self, x: Array, size: Any) -> Array:
        """By the divergence of the means from the row, column by column."""
        a, n = self.concentration, self._total
        common = _stirling(n) / self.n_features - _stirling(a) + self.base(x, size)
        return common - deviance(a, n * x, n * (a / n - x))

    def about(self, x: Array) -> tuple[Array, ...]:
        """Logarithms of the shares over their means."""
        return (log_ratio(x, self.concentration / self._total),)

    def shifted(self, size: Array | float, *sums: Array) -> tuple[Array, ...]:
        """See `Shaped.shifted`."""
        return (sums[0] - size * jnp.log(self.concentration / self._total),)

    def carried(self, onto: Any, size: Array, *sums: Array) -> tuple[Array, ...]:
        """See `Shaped.carried`."""
        mean, other = (law.concentration / law._total for law in (self, onto))
        return (sums[0] + size * jnp.log(mean / other),)

    def around(self, *means: Array) -> dict[str, Array]:
        """The shapes of these expected logarithms."""
        return {"concentration": dirichlet_shapes(means[0], self.concentration)}

    def width(self) -> Float[Array, "k d"]:
        """One over the root of the shapes' sum, in each column."""
        return jnp.broadcast_to(1 / jnp.sqrt(self._total), self.concentration.shape)

    def place(self) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
        """See `Shaped.place`; the determinant of d - 1 shares' covariance is known."""
        a, n, d = self.concentration, self._total, self.n_features
        logs = jnp.sum(jnp.log(a / n), axis=1) - (d - 1) * jnp.log1p(n[:, 0])
        return a / n, log_ball(d - 1) + 0.5 * logs

    @classmethod
    def spread(cls, x: Array, size: Any) -> Array:
        """Logarithms less their mean in the row.

        Source: Aitchison (1982), J. R. Statist. Soc. B 44.
        """
        del size
        return jnp.log(x) - jnp.mean(jnp.log(x), axis=1, keepdims=True)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`; columns are dependent."""
        mean = self.concentration / self._total
        spread = mean[:, :, None] * jnp.eye(self.n_features, dtype=mean.dtype)
        return mean, (spread - mean[:, :, None] * mean[:, None, :]) / (1 + self._total[..., None])

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Rows of sum 1."""
        del given
        return _shares(key, self.concentration[labels], axis=-1)

    @classmethod
    def incomplete(cls, *_: Any, **options: Any) -> Description:
        """See `Family.incomplete`: what the others of a row say of a share is not built."""
        return Family.incomplete.__func__(cls, **options)  # type: ignore[attr-defined]

    @classmethod
    def check(cls, x: Any, missing: bool = False, **options: Any) -> None:
        """Rows of positive shares that sum to 1.

        Raises:
            ValueError: naming the first row, or cell, that is none.
        """
        total = np.asarray(x, float).sum(axis=-1)
        off = np.asarray(x > 0).all(axis=-1) & ~np.asarray(cls.inside(np.asarray(x), 1.0)).all(-1)
        if off.any():
            row = int(np.argmax(off))
            raise ValueError(
                f"a Dirichlet family needs rows of shares that sum to one; row {row} sums to "
                f"{total[row]:.6g}: divide each row by its sum"
            )
        super().check(x, missing, **options)

    @classmethod
    def examples(cls) -> dict[str, "Dirichlet"]:
        """Three components of three shares."""
        return {"shares": cls(jnp.array([[2.0, 5.0, 1.0], [9.0, 3.0, 3.0], [0.9, 1.5, 8.0]]))}


def _shares(key: PRNGKeyArray, shapes: Array, axis: int) -> Array:
    """Gamma numbers over their sum along an axis, within (0, 1)."""
    # logarithms: a small shape draws numbers below the smallest
    logs = jax.random.loggamma(key, shapes)
    drawn = jax.nn.softmax(logs, axis=axis)
    limits = jnp.finfo(drawn.dtype)
    return jnp.clip(drawn, limits.tiny, 1 - limits.epsneg)
