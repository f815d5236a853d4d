"""Digits of the loss against extended precision, over separation and condition.

`python -m benchmarks.accuracy` prints the table of docs/engine.md: the relative error of the mean
negative log-likelihood, relative to max(|value|, d), of the linear kernel (the column "moment"),
the reference kernel, and the guarded one that `om.negative_log_likelihood` takes.
"""

import jax
import jax.numpy as jnp
import numpy as np

import otmix_jax as om
from otmix_jax.engine import Columns, Engine, Guarded, Kernel, Linear, Reference, Rows, Tiled, value

from .harness import print_table

SEPARATIONS = (1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
CONDITIONS = (1e0, 1e2, 1e4, 1e8, 1e12)
KERNELS = {"moment": Linear, "reference": Reference, "guarded": Guarded}
LIMIT = {"float64": 1e-12, "float32": 1e-5}


def case(separation: float, condition: float, dtype: str) -> tuple[om.Mixture, jax.Array]:
    """Three full components in four dimensions, in standard deviations, turned and stretched."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    stretch = turn * np.geomspace(1, condition**-0.5, 4) @ turn.T
    mean = separation * rng.normal(size=(3, 4)) @ stretch
    covariance = np.stack([stretch @ stretch * scale for scale in (1.0, 0.5, 2.0)])
    x = mean[rng.integers(3, size=2000)] + rng.normal(size=(2000, 4)) @ stretch
    factor = jnp.asarray(np.linalg.cholesky(covariance), dtype)
    components = om.families.Gaussian(jnp.asarray(mean, dtype), om.families.Full(factor))
    return om.Mixture(jnp.log(jnp.asarray([0.2, 0.3, 0.5], dtype)), components), jnp.asarray(
        x, dtype
    )


def exact(mixture: om.Mixture, x: jax.Array) -> np.longdouble:
    """The value at the very numbers of the mixture and the rows, in extended precision."""
    wide = np.longdouble
    rows, mean = np.asarray(x, wide), np.asarray(mixture.components.mean, wide)
    factor = np.asarray(mixture.components.covariance.factor, wide)
    log_density = []
    for j in range(len(mean)):
        u, y = rows - mean[j], []
        for i in range(rows.shape[1]):
            rest = u[:, i] - sum(factor[j, i, m] * y[m] for m in range(i))
            y.append(rest / factor[j, i, i])
        log_det = np.log(np.diagonal(factor[j])).sum()
        constant = wide(rows.shape[1]) / 2 * np.log(2 * np.pi * np.ones((), wide))
        square = sum(entry**2 for entry in y) / 2
        log_density.append(np.asarray(mixture.log_weights, wide)[j] - square - log_det - constant)
    logits = np.stack(log_density, axis=1)
    peak = logits.max(axis=1, keepdims=True)
    return -np.mean(np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0])


def errors(separation: float, condition: float, dtype: str) -> dict[str, float]:
    """Relative error of each kernel."""
    mixture, x = case(separation, condition, dtype)
    truth = exact(mixture, x)
    rows = Rows(x, jnp.full(len(x), 1 / len(x), x.dtype))
    scale = max(abs(truth), x.shape[1])
    columns = Columns(mixture.log_weights)

    def error(kernel: type[Kernel]) -> float:
        found = value(Engine(kernel, Tiled(512)), rows, columns, mixture.components)
        return float(abs(np.longdouble(float(found)) - truth) / scale)

    return {name: error(kernel) for name, kernel in KERNELS.items()}


def main() -> None:
    """Both tables."""
    jax.config.update("jax_enable_x64", True)
    for dtype in LIMIT:
        rows = [
            {"separation": f"{s:.0e}", "condition": f"{c:.0e}"}
            | {name: f"{error:.0e}" for name, error in errors(s, c, dtype).items()}
            for c in CONDITIONS
            for s in SEPARATIONS
        ]
        print_table(f"{dtype}: relative error of the loss", rows)


if __name__ == "__main__":
    main()
