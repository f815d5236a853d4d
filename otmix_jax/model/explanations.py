"""Which engine a problem gets, and why: for a person to read."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from ..engine import Engine, Guarded, read
from ..families.quadratic import QuadraticForm, largest_amplification
from .mixtures import Mixture
from .problems import Objective, Problem


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a pass over the rows is made of; `print` it.

    Attributes:
        engine: the kernel and the execution.
        kernel: the kernel that shapes and parameters lead to: "entrywise", "linear" or
            "reference".
        tile_rows: rows that are held at a time.
        n_rows: rows in all.
        tile_bytes: about what a tile holds, whatever the number of rows.
        amplification: how many unit roundoffs, per feature, the linear kernel may lose; None where
            that decides nothing.
        limit: up to where the linear kernel is taken; None as well.
    """

    engine: Engine
    kernel: str
    tile_rows: int
    n_rows: int
    tile_bytes: int
    amplification: float | None
    limit: float | None

    def __str__(self) -> str:
        """A few lines."""
        tiles = -(-self.n_rows // max(self.tile_rows, 1))
        lines = [
            f"kernel     {self.kernel}",
            f"execution  {tiles} tile(s) of {self.tile_rows} rows, {self.n_rows} in all",
            f"memory     about {self.tile_bytes / 1e6:.1f} MB beside the rows",
        ]
        if self.amplification is not None:
            side = "within" if self.kernel == "linear" else "beyond"
            digits = f"{self.amplification:.3g}, {side} the limit {self.limit:.3g}"
            lines.append(f"digits     amplification {digits}")
        return "\n".join(lines)


def explain(problem: Problem, mixture: Mixture, *, engine: Engine | None = None) -> Explanation:
    """Says which kernel and tile `solve` takes for a problem at a mixture.

    On more than a few rows the kernel is chosen anew at each step from the parameters at hand, so
    that it may change in the course of a fit: the linear kernel expands squares, and loses digits
    where means lie many standard deviations apart or columns correlate strongly; the reference
    kernel does not.

    Args:
        problem: rows [n, d].
        mixture: the parameters.
        engine: one to explain instead of the choice by shape.

    Raises:
        ValueError: for rows that are not the mixture's; see `Mixture.log_prob`.

    Example:
        >>> import jax, otmix_jax as om
        >>> problem = om.Problem(om.datasets.old_faithful().x)
        >>> start = om.initializers.kmeans_plus_plus(jax.random.key(0), problem, n_components=2)
        >>> om.explain(problem, start).kernel
        'entrywise'
    """
    problem = problem.checked(mixture)
    n, dtype = problem.n_rows, problem.dtype
    components = mixture.components
    chosen = Objective.of(problem, engine).engine_for(mixture)
    kernel = chosen.kernel.__name__.lower()
    amplification = limit = None
    if issubclass(chosen.kernel, Guarded):
        form: Any = components.linear_form()
        if isinstance(form, QuadraticForm):
            amplification, limit = float(form.amplification()), largest_amplification(dtype)
            fast = amplification <= limit
        else:
            rows = problem.rows()
            fast = bool(form.safe() & form.reaches(read(rows, rows.x, rows.weight)))
        kernel = "linear" if fast else "reference"
    rows = chosen.execution.tile_rows(n)
    held = rows * chosen.kernel.numbers_per_row(components) * jnp.dtype(dtype).itemsize
    return Explanation(chosen, kernel, rows, n, held, amplification, limit)
