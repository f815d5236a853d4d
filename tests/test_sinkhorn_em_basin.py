"""Sinkhorn-EM's basin on the symmetric pair of Mena et al. (2020), with a family of our own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import otmix_jax as om
from otmix_jax.core.tree import pytree
from otmix_jax.transport.couplings import Balanced, SemiRelaxed


@pytree
class SymmetricPair(om.families.Family):
    """N(theta, 1) and N(-theta, 1): one parameter, known variance."""

    theta: jax.Array

    @property
    def n_components(self):
        return 2

    @property
    def n_features(self):
        return 1

    @property
    def n_parameters(self):
        return 1

    def cost(self, x):
        means = jnp.stack([self.theta, -self.theta])
        return 0.5 * (x - means) ** 2 + 0.5 * jnp.log(2 * jnp.pi)

    def statistics(self, x, plan):
        return jnp.sum(plan * jnp.concatenate([x, -x], axis=1))

    def maximize(self, statistics, mass, prior=None):
        return SymmetricPair(statistics / jnp.sum(mass))

    def constrain(self, coordinates):
        return SymmetricPair(self.theta + coordinates)

    def unconstrained(self, origin):
        return self.theta - origin.theta

    def sample(self, key, labels):
        return (self.theta * (1 - 2 * labels) + jax.random.normal(key, labels.shape))[:, None]

    @classmethod
    def initial(cls, x, plan, covariance=None):
        return cls(jnp.ones((), x.dtype))

    @classmethod
    def examples(cls):
        return {"pair": cls(jnp.array(1.0))}


GRID = np.linspace(-9, 9, 1201)[:, None]
SHARES = np.arange(0.50, 1.0, 0.02)[1:]


def ends(theta, coupling):
    """Where each share of the first component ends, from the start -2 theta, on the population."""

    def run(share):
        weights = jnp.stack([share, 1 - share])
        truth = om.Mixture.from_weights(weights, SymmetricPair(jnp.asarray(theta)))
        problem = om.Problem(
            GRID, jnp.exp(truth.log_prob(GRID)), coupling=coupling, learn_weights=False
        )
        initial = om.Mixture.from_weights(weights, SymmetricPair(jnp.asarray(-2.0 * theta)))
        solution = om.solve(problem, initial, tolerance=1e-16, max_steps=20_000, history_size=1)
        return solution.mixture.components.theta

    return np.asarray(jax.vmap(run)(jnp.asarray(SHARES)))


@pytest.mark.parametrize("theta", [0.7, 1.0, 1.5])
def test_the_basin_is_larger_than_ems(theta):
    """The shares from which the truth is reached: an interval up to 1, and a longer one."""
    reached = {
        name: np.abs(ends(theta, coupling) - theta) < 1e-3
        for name, coupling in {"em": SemiRelaxed(), "sinkhorn": Balanced()}.items()
    }
    for mask in reached.values():
        assert mask[-1]
        assert not mask[0]
        assert np.diff(mask.astype(int)).min() >= 0, "reached from some share upwards"
    em, sinkhorn = (SHARES[mask].min() for mask in (reached["em"], reached["sinkhorn"]))
    print(f"theta {theta}: EM from share {em:.2f}, Sinkhorn-EM from {sinkhorn:.2f}")
    assert sinkhorn < em
