"""What a variational fit returns."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PyTree

from ..core.files import Saved
from ..core.tree import pytree, replace
from ..families import Frame
from ..model import Mixture


@pytree
class VariationalSolution(Saved):
    """A posterior and how it was reached; a PyTree of arrays, batched under `vmap`.

    Of a batch, take one, `jax.tree.map(lambda leaf: leaf[i], batch)`, to ask it about rows.

    Attributes:
        posterior: the `Belief`: `posterior.weights` of the proportions, `posterior.components` of
            the parameters, such as a `NormalWishart`.
        prior: the prior's `Belief`.
        lower_bound: the evidence lower bound of `posterior`, in nats, of all rows together.
        update_bound: the same at the responsibilities that the last step was made of: between the
            bounds before and after it, and scikit-learn's `lower_bound_` but for `constant`.
        counts: [k] expected rows in each component.
        status: integer; `Status(int(solution.status))` names it.
        n_steps: steps taken.
        history: [history_size] the lower bound of the start (entry 0) and after each step, which
            never falls beyond rounding; NaN beyond `n_steps`.
    """

    posterior: Any
    prior: Any
    lower_bound: Array
    update_bound: Array
    counts: Array
    status: Array
    n_steps: Array
    history: Array

    @property
    def mixture(self) -> Mixture:
        """The mixture at the parameters' posterior expectations."""
        return self.posterior.plug_in()

    @property
    def predictive(self) -> Mixture:
        """The law of the next row; Student-t components where the rows are Gaussian."""
        return self.posterior.predictive()

    @property
    def weights(self) -> Float[Array, "*b k"]:
        """The expected proportions, divided by their sum."""
        return self.posterior.weights.mean()

    @property
    def effective_components(self) -> Int[Array, "*b"]:
        """How many components hold a row, in expectation."""
        return jnp.sum(self.counts >= 1, axis=-1)

    @property
    def objective(self) -> Float[Array, "*b"]:
        """Minus the lower bound."""
        return -self.lower_bound

    def responsibilities(self, x: PyTree) -> Float[Array, "n k"]:
        """q(component | row) [n, k]."""
        return self.posterior.expected().responsibilities(x)

    def predict(self, x: PyTree) -> Int[Array, " n"]:
        """The most probable component of each row [n]."""
        return self.posterior.expected().predict(x)

    def log_prob(self, x: PyTree) -> Float[Array, " n"]:
        """Log density of each row under `predictive` [n], in nats."""
        return self.predictive.log_prob(x)

    def out_of(self, frame: Frame) -> "VariationalSolution":
        """The solution of the same problem for rows of which these are `frame.into(x)`."""
        stretch = jnp.sum(self.counts) * jnp.asarray(frame.log_volume, self.lower_bound.dtype)
        return replace(
            self,
            posterior=self.posterior.out_of(frame),
            prior=self.prior.out_of(frame),
            lower_bound=self.lower_bound - stretch,
            update_bound=self.update_bound - stretch,
            history=self.history - stretch,
        )
