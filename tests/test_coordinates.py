"""Domains come back and have derivatives; frames change no digit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import otmix_jax as om
from otmix_jax.families import FACTOR, POSITIVE, REAL, SIMPLEX, SPHERE, Affine
from otmix_jax.families.coordinates import power_of_two

RNG = np.random.default_rng(0)


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


VALUES = {
    "real": (REAL, RNG.normal(size=(2, 3, 4))),
    "positive": (POSITIVE, np.exp(RNG.normal(size=(2, 3, 4)))),
    "simplex": (SIMPLEX, RNG.dirichlet(np.ones(4), size=(2, 3))),
    "sphere": (SPHERE, unit(RNG.normal(size=(2, 3, 4)))),
    "factor": (FACTOR, np.tril(RNG.normal(size=(2, 3, 4, 4)), -1) + 2 * np.eye(4)),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_domain_comes_back_and_stays_within(name):
    domain, (value, origin) = VALUES[name][0], jnp.asarray(VALUES[name][1])
    z = domain.coordinates(value, origin)
    assert z[0].size == domain.free(value.shape[1:])
    np.testing.assert_allclose(domain.at(origin, z), value, rtol=1e-12, atol=1e-13)
    zeros = domain.coordinates(origin, origin)
    np.testing.assert_allclose(zeros, 0, atol=1e-15)
    far = domain.at(origin, z + 0.3)
    again = domain.at(origin, domain.coordinates(far, origin))
    np.testing.assert_allclose(far, again, rtol=1e-11, atol=1e-13)
    if name == "simplex":
        np.testing.assert_allclose(far.sum(-1), 1, rtol=1e-14)
    if name == "sphere":
        np.testing.assert_allclose((far**2).sum(-1), 1, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("name", VALUES)
def test_a_domain_has_a_derivative_at_its_origin(name):
    """The two maps are inverse to each other: so are their Jacobians, at zeros too."""
    domain, origin = VALUES[name][0], jnp.asarray(VALUES[name][1][1, 0])
    zeros = domain.coordinates(origin, origin)
    out = jax.jacfwd(lambda z: domain.at(origin, z))(zeros).reshape(-1, zeros.size)
    back = jax.jacfwd(lambda value: domain.coordinates(value, origin))(origin)
    product = back.reshape(zeros.size, -1) @ out
    np.testing.assert_allclose(product, np.eye(zeros.size), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_unit_is_a_power_of_two_wherever_the_rows_lie(dtype):
    lengths = (10.0 ** np.random.default_rng(0).uniform(-30, 30, size=200)).astype(dtype)
    for found in (power_of_two(lengths), power_of_two(jnp.asarray(lengths))):
        assert found.dtype == dtype
        assert (np.frexp(np.asarray(found))[0] == 0.5).all()
        ratio = np.asarray(found) / lengths
        assert ((ratio > 0.7) & (ratio < 1.42)).all()
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(dtype) * 9000
    frames = Affine.of(x, None), Affine.of(jnp.asarray(x), None)
    np.testing.assert_array_equal(frames[0].unit, frames[1].unit)


def test_a_column_of_zeros_is_a_count():
    x = np.c_[np.random.default_rng(0).poisson(4, size=(100, 1)), np.zeros((100, 1))]
    solution = om.fit(x, 1, family="poisson", key=0)
    np.testing.assert_allclose(solution.mixture.components.rate[0], [x[:, 0].mean(), 0], atol=1e-9)
    assert np.isfinite(solution.value)


def test_a_row_that_fills_the_cache_still_has_a_tile():
    components = om.families.Gaussian(
        jnp.zeros((100, 10_000)), om.families.Spherical(jnp.ones(100))
    )
    size = om.engine.engine.tile_size(om.engine.Reference, components, jnp.float64)
    assert size == om.engine.engine.SMALLEST


def test_looking_at_rows_on_a_device_makes_no_second_array():
    """Twice as many rows hold no more memory, in the checks and in the frame."""
    from otmix_jax.families.coordinates import _location
    from otmix_jax.fitting.cells import _all_finite

    for look in (_location, _all_finite):
        held = [
            look.lower(jax.ShapeDtypeStruct((n, 4), jnp.float64))
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
            for n in (300_000, 600_000)
        ]
        assert held[1] - held[0] < 1000, held
        assert held[1] < 600_000 * 32 / 4, held


def test_slices_fold_to_the_whole(monkeypatch):
    """Full slices and the rest, with weights and without."""
    monkeypatch.setattr(om.core.numerics, "SLICE", 16)
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(37, 3)), rng.uniform(size=37)
    for a in (None, weight):
        frame = Affine.of(jnp.asarray(x), a)
        plain = Affine.of(x, a)
        np.testing.assert_allclose(frame.origin, plain.origin, rtol=1e-13)
        np.testing.assert_array_equal(frame.unit, plain.unit)
