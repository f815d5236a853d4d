"""Derivatives of the loss: against finite differences, also where weights are zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

import otmix_jax as om

ROWS = np.random.default_rng(0).normal(size=(7, 2))
WEIGHT = np.array([1.0, 2.0, 0.5, 0.0, 1.0, 3.0, 1.0])


def central(f, x, h=1e-6):
    flat, unravel = ravel_pytree(x)
    basis = np.eye(flat.size) * h
    return np.array([(f(unravel(flat + e)) - f(unravel(flat - e))) / (2 * h) for e in basis])


def mixture_of(structure):
    """Three components and a fourth of weight zero."""
    example = om.families.Gaussian.examples()[structure]
    matrices = np.concatenate([example.matrices(), np.eye(2)[None]])
    covariance = type(example.covariance).from_matrices(jnp.asarray(matrices))
    mean = jnp.concatenate([example.mean, jnp.ones((1, 2))])
    components = om.families.Gaussian(mean, covariance)
    return om.Mixture.from_weights(jnp.array([0.2, 0.5, 0.3, 0.0]), components)


def test_in_components_rows_and_weights(structure):
    mixture = mixture_of(structure)

    def loss(components, x, sample_weight):
        model = om.Mixture(mixture.log_weights, components)
        return om.negative_log_likelihood(model, x, sample_weight)

    arguments = (mixture.components, jnp.asarray(ROWS), jnp.asarray(WEIGHT))
    gradients = jax.grad(loss, argnums=(0, 1, 2))(*arguments)
    for i, gradient in enumerate(gradients):

        def one(value, i=i):
            return loss(*arguments[:i], value, *arguments[i + 1 :])

        expected = central(one, arguments[i])
        np.testing.assert_allclose(ravel_pytree(gradient)[0], expected, rtol=1e-6, atol=1e-8)
    assert not np.any(gradients[1][3]), "the row of weight zero must not move the loss"
    assert not np.any(gradients[0].mean[3]), "nor the component of weight zero"


def test_in_the_proportions():
    mixture = mixture_of("full")

    def loss(log_weights):
        model = om.Mixture(log_weights, mixture.components)
        return om.negative_log_likelihood(model, ROWS, WEIGHT)

    gradient = jax.grad(loss)(mixture.log_weights)
    assert np.isfinite(gradient).all()
    assert abs(gradient[3]) < 1e-29, "0 to every sum: see `numerics.OPENING`"
    present = central(lambda lw: loss(jnp.append(lw, -jnp.inf)), mixture.log_weights[:3])
    np.testing.assert_allclose(gradient[:3], present, rtol=1e-6, atol=1e-9)
    # Envelope theorem: the gradient in log pi is minus the plan's column mass.
    a = WEIGHT / WEIGHT.sum()
    mass = a @ np.asarray(mixture.responsibilities(ROWS))
    np.testing.assert_allclose(gradient, -mass, rtol=1e-12, atol=1e-16)


def test_a_zero_weight_in_from_weights_has_a_finite_gradient():
    components = mixture_of("tied").components

    def loss(weights):
        return om.negative_log_likelihood(om.Mixture.from_weights(weights, components), ROWS)

    gradient = jax.grad(loss)(jnp.array([0.2, 0.5, 0.3, 0.0]))
    assert np.isfinite(gradient).all()


def test_a_row_that_is_not_a_number_is_absent_at_weight_zero(structure):
    mixture = mixture_of(structure)
    broken = ROWS.copy()
    broken[3] = [np.nan, np.inf]
    kept = np.delete(ROWS, 3, axis=0), np.delete(WEIGHT, 3)
    value, gradients = jax.value_and_grad(om.negative_log_likelihood, argnums=(0, 1))(
        mixture, jnp.asarray(broken), WEIGHT
    )
    expected, wanted = jax.value_and_grad(om.negative_log_likelihood, argnums=(0, 1))(
        mixture, jnp.asarray(kept[0]), kept[1]
    )
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(np.delete(gradients[1], 3, axis=0), wanted[1], rtol=1e-12)
    assert not np.any(gradients[1][3])
    for ours, theirs in zip(jax.tree.leaves(gradients[0]), jax.tree.leaves(wanted[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.nightly
def test_second_order(structure):
    mixture = mixture_of(structure)

    def loss(mean, x, sample_weight):
        components = om.families.Gaussian(jnp.asarray(mean), mixture.components.covariance)
        model = om.Mixture(mixture.log_weights, components)
        return om.negative_log_likelihood(model, x, sample_weight)

    arguments = (mixture.components.mean, jnp.asarray(ROWS), jnp.asarray(WEIGHT + 0.1))
    check_grads(loss, arguments, order=2, atol=1e-5, rtol=1e-5)


def test_no_nan_where_a_row_is_out_of_reach():
    mixture = mixture_of("full")
    x = jnp.asarray(ROWS).at[0].set(1e200)
    weight = jnp.asarray(WEIGHT).at[0].set(0.0)
    gradient = jax.grad(lambda m: om.negative_log_likelihood(m, x, weight))(mixture)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
