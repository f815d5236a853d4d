"""Statistics whose pivot moves: running sums stay about the parameters of the day."""

from typing import Any

from jax import Array
from jaxtyping import Float, PyTree

from . import em_gradient


class Pivots:
    """What sums over rows need that outlive the parameters they were taken about."""

    def expected_cost(
        self, statistics: PyTree, mass: Float[Array, " k"], at: Any
    ) -> Float[Array, ""] | None:
        """sum_ij P_ij C_ij(at) from `self.statistics`, up to a constant, or what touches it.

        Only its derivative at `self` is asked for, which must be that of the sum. None where the
        statistics do not give it; then a solver that asks for it makes another pass.
        """
        del mass
        if isinstance(statistics, em_gradient.Slopes):
            return em_gradient.expected_cost(self, statistics, at)
        return None

    def recentred(self, statistics: PyTree, mass: Float[Array, " k"], onto: Any) -> PyTree:
        """The statistics of the same rows under the same plan, about the parameters of `onto`.

        Exact where they are those of an exponential family, whatever latent parts were completed
        under these parameters. Derivatives move to first order: a gradient by the Hessian times
        the step, and the Hessian not at all; the fixed points are EM's all the same.

        Args:
            statistics: of `self.statistics`, or a sum of such.
            mass: [k] the plan's sizes that belong to them.
            onto: the same family of other parameters; of shape and options like these.

        Raises:
            TypeError: at trace time, for statistics that cannot be moved.
        """
        del mass
        if isinstance(statistics, em_gradient.Slopes):
            return em_gradient.recentred(self, statistics, onto)
        raise TypeError(
            f"{type(self).__name__} cannot re-centre its statistics, which a solver needs that "
            "adds those of moving parameters: use EM(), Squarem() or Gradient(optimizer)"
        )
