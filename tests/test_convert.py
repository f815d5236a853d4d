"""Mixtures to and from other packages: the same densities on both sides."""

import contracts
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import otmix_jax as om
from otmix_jax import convert
from otmix_jax.convert.laws import NUMPYRO, TFP, unwrapped
from otmix_jax.families import Frozen, Gaussian, OneOf, StudentT, VonMises
from otmix_jax.families.covariance import STRUCTURES

SHAPES = jnp.array([[[1.0, 0.3], [0.3, 0.5]], [[0.4, -0.1], [-0.1, 0.8]], [[1.5, 0.0], [0.0, 0.3]]])
NAMES = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}
FAST = {"Gaussian-full", "StudentT-tied", "Poisson-counts", "Binomial-counts", "OneOf-noise"}


def mixture_of(components):
    k = components.n_components
    return om.Mixture(jnp.log(jnp.arange(1.0, k + 1) / (k * (k + 1) / 2)), components)


def convertible(laws):
    """Examples with a counterpart."""
    for example in contracts.EXAMPLES:
        (components,), inner = example.values, unwrapped(example.values[0])
        known = type(inner) in laws and not getattr(inner, "by_cell", False)
        if known and (example.id == "Frozen-gaussian-mean" or not example.id.startswith("Frozen")):
            marks = [] if example.id in FAST else [pytest.mark.slow]
            yield pytest.param(components, id=example.id, marks=marks)


def gaussian(structure):
    mean = jnp.array([[0.0, 0.0], [3.0, 1.0], [-2.0, 2.0]])
    return mixture_of(Gaussian(mean, STRUCTURES[structure].from_matrices(SHAPES)))


@pytest.mark.parametrize("structure", NAMES)
def test_scikit_learn_sees_the_same_mixture(structure, blobs):
    mixture = gaussian(structure)
    model = convert.to_sklearn(mixture)
    assert model.covariance_type == NAMES[structure]
    np.testing.assert_allclose(model.score_samples(blobs), mixture.log_prob(blobs), rtol=1e-10)
    np.testing.assert_allclose(
        model.predict_proba(blobs), mixture.responsibilities(blobs), atol=1e-10
    )
    np.testing.assert_array_equal(model.predict(blobs), mixture.predict(blobs))
    assert np.isclose(model.bic(blobs), _bic(mixture, blobs), rtol=1e-10)
    assert model.sample(5)[0].shape == (5, 2)
    again = convert.from_sklearn(model)
    assert type(again.components.covariance) is type(mixture.components.covariance)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(mixture), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def _bic(mixture, x):
    return -2 * mixture.log_prob(x).sum() + mixture.n_parameters * np.log(len(x))


@pytest.mark.parametrize("name", NAMES.values())
def test_a_fit_of_scikit_learn_comes_over(name, blobs):
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(3, covariance_type=name, random_state=0).fit(blobs)
    mixture = convert.from_sklearn(model)
    np.testing.assert_allclose(mixture.log_prob(blobs), model.score_samples(blobs), rtol=1e-10)
    back = convert.to_sklearn(mixture)
    for attribute in (
        *("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"),
    ):
        ours, theirs = getattr(back, attribute), getattr(model, attribute)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_solution_also_says_how_it_was_reached(blobs):
    solution = om.fit(blobs, 2, key=0, starts=om.Starts(n_init=1))
    model = convert.to_sklearn(solution)
    assert model.converged_
    assert model.n_iter_ == int(solution.n_steps)
    assert np.isclose(model.lower_bound_, model.score(blobs))
    assert len(model.lower_bounds_) == model.n_iter_
    # and one that mclust names, which scikit-learn does not have
    assert convert.to_sklearn(gaussian("VEV")).covariance_type == "full"
    held = mixture_of(Frozen(gaussian("full").components, "mean"))
    assert convert.to_sklearn(held).means_.shape == (3, 2)


def test_scikit_learn_gets_and_gives_gaussians_alone():
    from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

    with pytest.raises(TypeError, match="Gaussian components are needed, not StudentT"):
        convert.to_sklearn(mixture_of(StudentT.examples()["full"]))
    with pytest.raises(ValueError, match="fit it first"):
        convert.from_sklearn(GaussianMixture(2))
    with pytest.raises(TypeError, match="not BayesianGaussianMixture"):
        convert.from_sklearn(BayesianGaussianMixture(n_components=2))
    with pytest.raises(TypeError, match="not dict"):
        convert.from_sklearn({})
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), gaussian("full"))
    with pytest.raises(ValueError, match="batch"):
        convert.to_sklearn(batch)


def test_ott_sees_the_same_mixture(blobs):
    pytest.importorskip("ott")
    for structure in ("full", "spherical"):
        mixture = gaussian(structure)
        model = convert.to_ott(mixture)
        x = jnp.asarray(blobs)
        np.testing.assert_allclose(model.log_prob(x), mixture.log_prob(x), rtol=1e-10, atol=1e-10)
        again = convert.from_ott(model)
        np.testing.assert_allclose(again.weights, mixture.weights, rtol=1e-10)
        np.testing.assert_allclose(again.log_prob(x), mixture.log_prob(x), rtol=1e-10, atol=1e-10)
    empty = om.Mixture.from_weights(jnp.array([0.5, 0.5, 0.0]), mixture.components)
    with pytest.raises(ValueError, match="weight 0"):
        convert.to_ott(empty)
    with pytest.raises(TypeError, match="not list"):
        convert.from_ott([])


@pytest.mark.slow
@pytest.mark.parametrize("components", list(convertible(NUMPYRO)))
def test_numpyro_sees_the_same_mixture(components):
    mixture, x = mixture_of(components), contracts.rows_for(components)
    law = convert.to_numpyro(mixture)
    if isinstance(components, VonMises):  # numpyro wants angles from -pi to pi
        x = (x + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(law.log_prob(x), mixture.log_prob(x), rtol=1e-10, atol=1e-10)
    assert law.sample(jax.random.key(0), (3,)).shape == (3, *x.shape[1:])


def test_numpyro_has_kinds_of_their_own_support():
    (components,) = OneOf.examples().values()
    mixture, x = mixture_of(components), contracts.rows_for(components)
    law = convert.to_numpyro(mixture)
    far = jnp.concatenate([x, jnp.array([[50.0, 50.0]])])  # where there is no uniform noise
    np.testing.assert_allclose(law.log_prob(far), mixture.log_prob(far), rtol=1e-10, atol=1e-10)


def test_an_absent_component_may_hold_anything(blobs):
    components = gaussian("full").components
    hollow = Gaussian(components.mean.at[2].set(jnp.nan), components.covariance)
    mixture = om.Mixture.from_weights(jnp.array([0.5, 0.5, 0.0]), hollow)
    law = convert.to_numpyro(mixture)
    np.testing.assert_allclose(law.log_prob(blobs), mixture.log_prob(blobs), rtol=1e-10)


def test_families_without_a_counterpart_say_so():
    for name in ("Product-mixed", "Binomial-cells", "Multinomial-counts"):
        (components,) = next(one for one in contracts.EXAMPLES if one.id == name).values
        with pytest.raises(TypeError, match="counterpart in numpyro|sizes of their own"):
            convert.to_numpyro(mixture_of(components))


@pytest.mark.parametrize("components", list(convertible(TFP)))
def test_tfp_and_distrax_see_the_same_mixture(components):
    pytest.importorskip("tensorflow_probability.substrates.jax")
    mixture, x = mixture_of(components), jnp.asarray(contracts.rows_for(components))
    law = convert.to_tfp(mixture)
    np.testing.assert_allclose(law.log_prob(x), mixture.log_prob(x), rtol=1e-10, atol=1e-10)
    pytest.importorskip("distrax")
    law = convert.to_distrax(mixture)
    np.testing.assert_allclose(law.log_prob(x), mixture.log_prob(x), rtol=1e-10, atol=1e-10)
