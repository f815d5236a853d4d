"""The bootstrap, as one batch of fits."""

import jax
from jax import Array
from jaxtyping import PRNGKeyArray

from ..fitting.solving import solve
from ..model import Mixture, Problem, Solution
from ..solvers import EM, Solver


def parametric_bootstrap(
    key: PRNGKeyArray,
    mixture: Mixture,
    n: int,
    n_replications: int,
    *,
    solver: Solver = EM(),
    tolerance: Array | float = 1e-10,
    max_steps: Array | int = 2000,
) -> Solution:
    """Fits to samples of the mixture itself: the sampling law of its estimate, by simulation.

    Every replication starts from the mixture, so components keep their places.

    Args:
        key: a typed PRNG key.
        mixture: the answer in question.
        n: rows per sample; static.
        n_replications: number of samples, fitted at once; memory grows with it; static.
        solver: how each is fitted.
        tolerance: see `solve`.
        max_steps: see `solve`.

    Returns:
        A batch of `Solution`: its leaves have a first axis [n_replications]. Look at its `status`.

    Example:
        >>> import jax, otmix_jax as om
        >>> mixture = om.fit(om.datasets.old_faithful().x, 2, key=0).mixture
        >>> batch = om.inference.parametric_bootstrap(jax.random.key(0), mixture, 272, 20)
        >>> batch.mixture.components.mean.shape
        (20, 2, 2)
    """

    def one(replication_key: PRNGKeyArray) -> Solution:
        problem = Problem(mixture.sample(replication_key, n))
        # one entry of history: those of all replications would be most of the memory
        return solve(
            problem, mixture, solver, tolerance=tolerance, max_steps=max_steps, history_size=1
        )

    return jax.vmap(one)(jax.random.split(key, n_replications))
