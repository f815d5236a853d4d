"""Programs are used again: other rows, as many or not, compile nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import otmix_jax as om
from otmix_jax.core.buckets import MOST, bucket
from otmix_jax.core.compiling import Quick

inference = om.inference
KEY, OTHER = jax.random.key(0), jax.random.key(1)
FULL = om.families.Full(jnp.array([[[0.3, 0.0], [1.0, 5.0]], [[0.4, 0.0], [0.9, 5.5]]]))
MIXTURE = om.Mixture.from_weights(
    jnp.array([0.35, 0.65]), om.families.Gaussian(jnp.array([[2.0, 54.5], [4.3, 80.0]]), FULL)
)
SCORES = ("log_prob", "responsibilities", "predict")


class Compilations(list):
    """Names of the programs that are compiled from here on, or loaded from a cache."""

    def __init__(self):
        super().__init__()
        jax.monitoring.register_event_duration_secs_listener(self._note)

    def _note(self, event, _, **what):
        if event == "/jax/core/compile/backend_compile_duration":
            self.append(what.get("fun_name"))

    def stop(self):
        jax.monitoring.unregister_event_duration_listener(self._note)


@pytest.fixture
def compiled():
    found = Compilations()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def solution(faithful):
    return om.solve(om.Problem(faithful), MIXTURE, tolerance=1e-14)


def test_buckets_are_few_and_little_larger():
    sizes = [bucket(n) for n in range(1, 5000)]
    for n, size in enumerate(sizes, 1):
        assert size >= n
        assert size % 8 == 0
        assert bucket(size) == size
        assert size < n + max(16, n / 8)
    assert len(set(sizes)) < 55
    assert bucket(MOST + 1) == MOST + 1


def test_other_rows_are_scored_by_the_same_program(faithful, compiled):
    for name in SCORES:
        score = getattr(MIXTURE, name)
        score(faithful)
        del compiled[:]
        for rows in (faithful[:-1], faithful[1:], faithful[:250], faithful[:250].tolist()):
            assert len(score(rows)) == len(rows)
        assert not compiled, name
        score(np.tile(faithful, (9, 1))[:2222])  # a bucket that no other test fills
        assert compiled


@pytest.mark.parametrize("n", [0, 1, 16, 271, 505, 530])
def test_scores_are_those_of_the_rows_alone(faithful, n):
    """Rows on a device are scored as they are, so their programs know no bucket."""
    x = np.tile(faithful, (5, 1))[:n]
    for name in SCORES:
        score = getattr(MIXTURE, name)
        np.testing.assert_allclose(score(x), score(jnp.asarray(x)), rtol=1e-15, atol=1e-15)


def test_columns_by_name_go_up_to_a_bucket_too(compiled):
    parts = {
        "size": om.families.Gaussian(jnp.array([[0.0], [4.0]]), om.families.Spherical(jnp.ones(2))),
        "kind": om.families.Poisson(jnp.array([[1.0], [6.0]])),
    }
    mixture = om.Mixture.from_weights(jnp.array([0.5, 0.5]), om.families.Product(parts))
    rng = np.random.default_rng(0)
    x = {"size": rng.normal(size=(40, 1)), "kind": rng.poisson(3.0, size=(40, 1))}
    whole = mixture.log_prob(x)
    del compiled[:]
    less = {name: column[:37] for name, column in x.items()}
    np.testing.assert_array_equal(mixture.log_prob(less), np.asarray(whole)[:37])
    assert not compiled
    # columns of different lengths are not filled up to the same one
    with pytest.raises(ValueError, match="all as many"):
        inference.scores(mixture, {**x, "kind": less["kind"]})


def test_scores_go_through_transformations(faithful):
    """Where all that is computed becomes part of a program, rows of the host are constants."""
    x = faithful[:5]
    expected = MIXTURE.log_prob(x)
    np.testing.assert_allclose(jax.jit(lambda: MIXTURE.log_prob(x))(), expected, rtol=1e-14)
    np.testing.assert_allclose(jax.jit(lambda m: m.log_prob(x))(MIXTURE), expected, rtol=1e-14)
    gradient = jax.grad(lambda m: m.log_prob(x).sum())(MIXTURE)
    assert np.isfinite(gradient.components.mean).all()


def test_standard_errors_of_a_subset_compile_nothing(faithful, solution, compiled):
    def all_of(x, counts=None):
        om.standard_errors(solution, x, counts)
        covariance = inference.parameter_covariance(solution.mixture, x, counts)
        inference.confidence_ellipses(covariance, 0.9)
        covariance.delta(lambda mixture: mixture.components.mean)
        inference.scores(solution.mixture, x)

    all_of(faithful)
    del compiled[:]
    all_of(faithful[:-1])
    all_of(faithful[:250], np.random.default_rng(0).integers(0, 3, 250).astype(float))
    assert not compiled


def test_absent_rows_add_no_information(faithful, solution):
    """The rows as they are, on a device, through the program that runs fast."""
    x = faithful[:250]
    counts = np.random.default_rng(0).integers(0, 3, len(x)).astype(float)

    @jax.jit
    def plain(x, counts):
        return om.standard_errors(solution, x, counts, robust=True)

    ours = om.standard_errors(solution, x, counts, robust=True)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain(x, counts)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    rows = inference.scores(solution.mixture, x)
    np.testing.assert_allclose(rows, inference.scores(solution.mixture, jnp.asarray(x)), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_are_counts_in_every_precision(faithful, solution, dtype):
    """Each row twice: errors by the root of 2 smaller, whatever the types."""
    x, twice = faithful.astype(np.float32), np.full(len(faithful), 2, dtype)
    mixture = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), solution.mixture)
    single = om.solve(om.Problem(x), mixture, max_steps=0)
    once = om.standard_errors(single, x)
    often = om.standard_errors(single, x, twice)
    assert often.means.dtype == np.float32
    np.testing.assert_allclose(often.means * np.sqrt(2), once.means, rtol=1e-3)


def test_quick_programs_are_parts_of_others(faithful, solution):
    """Their options would be refused there."""
    double = Quick(lambda x: 2 * x, level=0)
    assert jax.jit(lambda: double(True, 1.0))() == 2
    assert jax.grad(lambda x: double(True, x))(1.0) == 2
    np.testing.assert_array_equal(jax.lax.map(lambda x: double(True, x), jnp.ones(2)), 2)
    inside = jax.jit(lambda: om.standard_errors(solution, faithful).weights)()
    np.testing.assert_allclose(inside, om.standard_errors(solution, faithful).weights, rtol=1e-9)


def test_another_bootstrap_compiles_nothing(compiled):
    inference.parametric_bootstrap(KEY, MIXTURE, 272, 10)
    del compiled[:]
    batch = inference.parametric_bootstrap(OTHER, MIXTURE, 250, 70)
    assert not compiled
    assert batch.value.shape == (70,)
    assert not batch.status.any()
    assert inference.parametric_bootstrap(KEY, MIXTURE, 272, 0).value.shape == (0,)


def test_a_bootstrap_is_a_fit_to_each_sample():
    """Its samples, drawn by hand, by EM to the last digit; and the same answers under jit."""
    n, count = 250, 6
    batch = inference.parametric_bootstrap(KEY, MIXTURE, n, count)

    def one(number):
        rows = MIXTURE.sample(jax.random.fold_in(KEY, number), bucket(n))[:n]
        return om.solve(om.Problem(rows), MIXTURE, tolerance=1e-20, history_size=1)

    exact = jax.jit(jax.vmap(one))(jnp.arange(count))
    # a thousandth of the standard errors of the means, which are about 0.05 and 0.4
    off = np.abs(batch.mixture.components.mean - exact.mixture.components.mean)
    assert (off < [5e-5, 5e-4]).all()
    # nats of the total log-likelihood
    np.testing.assert_allclose(n * batch.value, n * exact.value, rtol=0, atol=1e-6)
    traced = jax.jit(lambda key: inference.parametric_bootstrap(key, MIXTURE, n, count))(KEY)
    np.testing.assert_allclose(traced.value, batch.value, rtol=1e-9)
    staged = jax.jit(lambda: inference.parametric_bootstrap(KEY, MIXTURE, n, count).value)()
    np.testing.assert_allclose(staged, batch.value, rtol=1e-9)


def test_a_bootstrap_has_a_derivative():
    """The estimated mean moves as the mean does, one by one."""

    def estimate(mean):
        components = om.families.Gaussian(mean[None, None], om.families.Spherical(jnp.ones(1)))
        mixture = om.Mixture.from_weights(jnp.ones(1), components)
        return inference.parametric_bootstrap(KEY, mixture, 20, 3).mixture.components.mean.mean()

    value, slope = jax.jvp(estimate, (0.5,), (1.0,))
    assert abs(value - 0.5) < 4 / np.sqrt(60)
    assert abs(slope - 1) < 1e-3
