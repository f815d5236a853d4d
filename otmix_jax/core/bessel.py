"""The normaliser of laws exp(kappa mu.x) on the unit sphere, and its derivatives.

With t = mu.x, and nu = d / 2 - 1,

    integral of exp(kappa (t - 1)) = (2 pi)^(d / 2) kappa^-nu I_nu(kappa) exp(-kappa)

Along t = tanh(u) its integrand is log-concave, of width about (d - 1)^(-1/2) about its peak, which
is known in closed form. One quadrature about that peak is therefore accurate to rounding for every
kappa >= 0 and d >= 2, where power series, uniform and large-argument expansions of I_nu would each
cover a part. All its terms are positive, so moments of t and of 1 - t, the ratio
I_(nu + 1) / I_nu and what it lacks to 1, lose nothing to cancellation either.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

NEWTON_STEPS = 5
"""From a start that is off by a few per cent, in a coordinate of which the equation is all but
linear: the digits double each time."""


def _nodes(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances from the peak, in u, and weights; the sinh keeps exponential tails short."""
    step = 0.05 if d < 10 else 0.08  # tails of few dimensions are long, their strip is narrow
    # e^-40 is nothing beside 1: tails fall as exp(-(d - 1) u), or as a normal law's within 9
    furthest = math.ceil(math.asinh(40 / math.sqrt(d - 1) + 9) / step)
    v = step * np.arange(-furthest, furthest + 1)
    scale = 1 / math.sqrt(d - 1)
    return scale * np.sinh(v), scale * step * np.cosh(v)


def _quadrature(
    kappa: Float[Array, "*shape"], d: int
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape q"], Float[Array, "*shape q"], Array]:
    """The log-normaliser, and the law at the nodes: 1 - t, 1 + t, probabilities.

    At the peak kappa (1 - t^2) = (d - 1) t, so that only t and d are left in the integrand.
    """
    a = d - 1
    kappa = jnp.asarray(kappa)
    u, weight = (jnp.asarray(part, kappa.dtype) for part in _nodes(d))
    reach = a + jnp.hypot(jnp.asarray(a, kappa.dtype), 2 * kappa)
    peak, width = 2 * kappa / reach, 2 * a / reach  # t, and 1 - t^2
    lacks = width / (1 + peak)  # 1 - t
    t, c = peak[..., None], lacks[..., None]
    small = jnp.exp(-2 * jnp.abs(u))
    less, more = 2 * small / (1 + small), 2 / (1 + small)
    plus, minus = jnp.where(u > 0, more, less), jnp.where(u > 0, less, more)  # 1 +- tanh u
    divisor = c + t * plus
    near, far = 0.5 * (1 + t), 0.5 * c
    # log(cosh u + t sinh u), where e^u might overflow
    rise = jnp.abs(u) + jnp.log(jnp.where(u > 0, near + far * small, near * small + far))
    mass = weight * jnp.exp(a * (t * jnp.tanh(u) / divisor - rise))
    total = jnp.sum(mass, axis=-1)
    surface = math.log(2) + 0.5 * a * math.log(math.pi) - math.lgamma(0.5 * a)
    log_normalizer = surface - kappa * lacks + 0.5 * a * jnp.log(width) + jnp.log(total)
    return log_normalizer, c * minus / divisor, (1 + t) * plus / divisor, mass / total[..., None]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_normalizer(kappa: Float[Array, "*shape"], d: int) -> Float[Array, "*shape"]:
    """Log of the integral of exp(kappa (mu.x - 1)) over the unit sphere of R^d, d >= 2, in nats.

    Accurate to rounding for every kappa >= 0; so are derivatives, by `mean_cosine` and others.

    Args:
        kappa: concentrations, of any shape.
        d: the dimension, static.
    """
    return _quadrature(kappa, d)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def mean_versine(kappa: Float[Array, "*shape"], d: int) -> Float[Array, "*shape"]:
    """The mean of 1 - mu.x: what the mean cosine lacks to 1, with all its digits."""
    _, minus, _, share = _quadrature(kappa, d)
    return jnp.sum(share * minus, axis=-1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def mean_cosine(kappa: Float[Array, "*shape"], d: int) -> Float[Array, "*shape"]:
    """A_d(kappa) = I_(d/2)(kappa) / I_(d/2-1)(kappa), the mean of mu.x.

    By parts it is kappa / (d - 1) times the mean of 1 - (mu.x)^2: no cancellation near 0.
    """
    _, minus, plus, share = _quadrature(kappa, d)
    return kappa / (d - 1) * jnp.sum(share * minus * plus, axis=-1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def cosine_variance(kappa: Float[Array, "*shape"], d: int) -> Float[Array, "*shape"]:
    """The variance of mu.x: the derivative of A_d, which is 1 - A^2 - (d - 1) A / kappa."""
    return _central_moment(kappa, d, 2)


def _central_moment(kappa: Array, d: int, order: int) -> Array:
    """Of mu.x."""
    _, minus, _, share = _quadrature(kappa, d)
    mean = jnp.sum(share * minus, axis=-1, keepdims=True)
    return jnp.sum(share * (mean - minus) ** order, axis=-1)


@log_normalizer.defjvp
def _(d: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return log_normalizer(primals[0], d), -mean_versine(primals[0], d) * tangents[0]


@mean_versine.defjvp
def _(d: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return mean_versine(primals[0], d), -cosine_variance(primals[0], d) * tangents[0]


@mean_cosine.defjvp
def _(d: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return mean_cosine(primals[0], d), cosine_variance(primals[0], d) * tangents[0]


@cosine_variance.defjvp
def _(d: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return cosine_variance(primals[0], d), _central_moment(primals[0], d, 3) * tangents[0]


def concentration_of(
    cosine: Float[Array, "*shape"], versine: Float[Array, "*shape"], d: int
) -> Float[Array, "*shape"]:
    """Kappa with A_d(kappa) = cosine, to full precision, with its derivative.

    Newton's method on log(A / (1 - A)) in log kappa, which is a line at either end, from the start
    of Banerjee et al. (2005), eq. (4.4).

    Args:
        cosine: the mean of mu.x; below 0 the answer is that of 0, the smallest kappa.
        versine: 1 - cosine, with its own digits; kappa is bounded where it is less than those of
            rows, eps^2.
        d: the dimension, static.
    """
    limits = jnp.finfo(jnp.result_type(cosine))
    cosine = jnp.maximum(cosine, limits.tiny / limits.eps)
    versine = jnp.maximum(versine, limits.eps**2)
    target = jnp.log(cosine) - jnp.log(versine)

    def newton(target: Array, kappa: Array) -> Array:
        mean, lacks = mean_cosine(kappa, d), mean_versine(kappa, d)
        missing = target - (jnp.log(mean) - jnp.log(lacks))
        slope = kappa * cosine_variance(kappa, d) / (mean * lacks)
        return kappa * jnp.exp(missing / slope)

    fixed, c, s = jax.lax.stop_gradient((target, cosine, versine))
    start = c * (d - jnp.minimum(c, 1) ** 2) / (s * (1 + c))
    kappa = jax.lax.fori_loop(0, NEWTON_STEPS, lambda _, kappa: newton(fixed, kappa), start)
    # the last step alone has a derivative: at the root it is that of the inverse function
    return newton(target, jax.lax.stop_gradient(kappa))
