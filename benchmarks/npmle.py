"""The infinite mixture: seconds and certificates, beside a dense grid's weights by EM.

A certificate is log max D, what any other law may win in nats per row: of `npmle` a bound over the
whole line, of EM that of its grid.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

import otmix_jax as om

from .harness import seconds

GRID, STEPS = 300, 200


@jax.jit
def by_em(table: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weights of a grid after so many steps of EM, and its certificate: what is common."""
    start = jnp.full(table.shape[1], 1 / table.shape[1])

    def step(_: int, w: jax.Array) -> jax.Array:
        return w * (table.T @ (1 / (table @ w))) / len(table)

    w = jax.lax.fori_loop(0, STEPS, step, start)
    density = table @ w
    return -jnp.mean(jnp.log(density)), jnp.log(jnp.max(table.T @ (1 / density)) / len(table))


def rows(n: int) -> np.ndarray:
    """Half of the locations at a normal law, half at an exponential one; noise 1."""
    rng = np.random.default_rng(0)
    half = rng.random(n) < 0.5
    return np.where(half, rng.normal(size=n), 3 + rng.exponential(size=n)) + rng.normal(size=n)


def table(quick: bool) -> list[dict]:
    """Rows in one column, noise 1 and by row."""
    found = []
    for n in (1000, 10_000) if quick else (1000, 10_000, 100_000):
        x = rows(n)
        uneven = np.exp(np.random.default_rng(1).uniform(-0.5, 0.5, n))
        for noise, name in ((1.0, "noise 1"), (uneven, "noise by row")):
            first, warm = seconds(lambda x=x, noise=noise: om.npmle(x, noise=noise), repeats=3)
            fit = om.npmle(x, noise=noise)
            grid = np.linspace(x.min(), x.max(), GRID)
            scale = np.broadcast_to(noise, n)[:, None]
            density = np.exp(-0.5 * ((x[:, None] - grid) / scale) ** 2) / scale
            begin = time.perf_counter()
            value, gap = jax.block_until_ready(by_em(jnp.asarray(density)))
            value = float(value) + 0.5 * np.log(2 * np.pi)
            found.append(
                {
                    "rows": f"{n}, {name}",
                    "atoms": len(fit.weights),
                    "first s": first,
                    "warm s": warm,
                    "certificate": float(fit.certificate.upper),
                    "EM on a grid s": time.perf_counter() - begin,
                    "EM's certificate": float(gap),
                    "EM's excess, nats": n * (value - float(fit.value)),
                }
            )
    return found
