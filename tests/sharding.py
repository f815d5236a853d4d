"""An execution over several devices in one file: rows are sharded, tiles are summed by `psum`.

Run by test_sharded.py in a process of two CPU devices; prints what it compared.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import otmix_jax as om
from otmix_jax.core.tree import static
from otmix_jax.engine import Engine, Execution, Guarded, Reference, Rows, read
from otmix_jax.families import pytree


@pytree
class Sharded(Execution):
    """One tile for each device of a mesh of one axis; the rows must divide by their number."""

    mesh: Any = static()

    def reduce(self, tile, rows, *others, by_row=False):
        axis = self.mesh.axis_names[0]
        along, everywhere = PartitionSpec(axis), PartitionSpec()

        def local(tile, rows, *others):
            yielded = tile(read(rows, rows.x, rows.weight), rows.weight, *others)
            sums, part = yielded if by_row else (yielded, None)
            return jax.lax.psum(sums, axis), part

        total, part = jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(
                everywhere,
                Rows(along, along, everywhere, everywhere),
                *[along] * len(others),
            ),
            out_specs=(everywhere, along),
            check_vma=False,
        )(tile, rows, *others)
        return (total, part) if by_row else total

    def tile_rows(self, n):
        return n // self.mesh.size


def main():
    """Fit, and the implicit derivative of its answer, against one device."""
    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    x = om.datasets.old_faithful().x
    for kernel in (Reference, Guarded):
        engine, dense = Engine(kernel, Sharded(mesh)), Engine(kernel)
        limits = om.Limits(gap=1e-3)  # few steps: leaps make much of rounding
        options = {"key": 0, "starts": om.Starts(n_init=2), "covariance": "tied", "limits": limits}
        ours, theirs = (om.fit(x, 3, engine=e, **options) for e in (engine, dense))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12),
            (ours.mixture, ours.value), (theirs.mixture, theirs.value),
        )  # fmt: skip
        assert ours.n_steps == theirs.n_steps

        def scale(x, weight, engine, start=theirs.mixture):
            problem = om.Problem(x, weight)
            answer = om.solve(problem, start, tolerance=1e-20, max_steps=60, engine=engine)
            return jnp.sum(answer.mixture.components.matrices() ** 2) + answer.value

        slope = jax.jit(jax.grad(scale, argnums=(0, 1)), static_argnums=())
        weight = jnp.ones(len(x))
        found, expected = (slope(x, weight, e) for e in (engine, dense))
        for a, b in zip(found, expected, strict=True):
            assert np.abs(b).max() > 0
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1, float(np.abs(b).max())))
        print(kernel.__name__, "is sharded over", mesh.size, "devices")


if __name__ == "__main__":
    main()
