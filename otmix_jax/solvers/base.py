"""The contract of a solver: where it starts, how it steps, how it fares."""

import abc
from typing import Any

from jax import Array

from .._pytree import pytree
from ..mixture import Mixture
from ..oracle import Oracle


@pytree
class Progress:
    """What the driver needs to know of a solver's state, all scalars.

    Attributes:
        value: transport value of the state's mixture, in nats; by default the mean negative
            log-likelihood.
        objective: value plus the prior's penalty.
        decrease: what the last step won of the objective, or an estimate of what the next can
            win; the driver stops when it falls to the tolerance.
        mass: [k] the plan's sizes; None from a solver that does not need them.
        status: CONVERGED while all is well, else the `Status` that ends the run.
    """

    value: Array
    objective: Array
    decrease: Array
    mass: Array | None
    status: Array


class Solver(abc.ABC):
    """One algorithm. It sees an `Oracle`, never a concrete family, kernel or device.

    A state is a PyTree of fixed structure that holds a mixture, and what the next step needs.
    The loop belongs to `driver.py`.
    """

    @abc.abstractmethod
    def init(self, oracle: Oracle, mixture: Mixture) -> Any:
        """The state at the start."""

    @abc.abstractmethod
    def step(self, oracle: Oracle, state: Any) -> Any:
        """The next state; on failure the old mixture stays and the status says why."""

    @abc.abstractmethod
    def mixture(self, state: Any) -> Mixture:
        """The state's mixture."""

    @abc.abstractmethod
    def progress(self, state: Any) -> Progress:
        """How the state fares."""
