"""The contract of a solver: where it starts, how it steps, how it fares."""

import abc
from typing import Any

import jax.numpy as jnp
from jax import Array

from .._pytree import pytree
from ..mixture import Mixture
from ..oracle import Oracle
from ..status import Status


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


def no_progress(mixture: Mixture, mass: Array | None) -> Progress:
    """Before the start is evaluated: nothing failed, nothing converged."""
    zero = jnp.zeros_like(mixture.log_weights[0])
    status = jnp.asarray(Status.CONVERGED.code, jnp.int32)
    return Progress(zero, zero, jnp.full_like(zero, jnp.inf), mass, status)


class Solver(abc.ABC):
    """One algorithm. It sees an `Oracle`, never a concrete family, kernel or device.

    A state is a PyTree of fixed structure that holds a mixture, and what the next step needs.
    The first step evaluates the start and goes nowhere; so a loop holds one evaluation, not a
    second one before it, which would be compiled as well. The loop belongs to `driver.py`.
    """

    @abc.abstractmethod
    def init(self, oracle: Oracle, mixture: Mixture) -> Any:
        """The state before the start is evaluated; cheap, and its progress says nothing."""

    @abc.abstractmethod
    def step(self, oracle: Oracle, state: Any) -> Any:
        """The next state; on failure the old mixture stays and the status says why.

        The start itself stays whatever it is, and its failure is NON_FINITE.
        """

    @abc.abstractmethod
    def mixture(self, state: Any) -> Mixture:
        """The state's mixture."""

    @abc.abstractmethod
    def progress(self, state: Any) -> Progress:
        """How the state fares."""
