"""mclust's ten other covariance structures, and factor analysers."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis

import otmix_jax as om
from otmix_jax.core import rotations
from otmix_jax.engine import Columns, Entrywise, Linear, Reference
from otmix_jax.families import STRUCTURES, FactorAnalyzers, Gaussian, StudentT

NEW = ("EII", "EEI", "VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV")
K, D, N = 3, 3, 60
COUNTS = {  # mclust's nVarParams(name, d=3, G=3)
    "EII": 1, "VII": 3, "EEI": 3, "VEI": 5, "EVI": 7, "VVI": 9, "EEE": 6, "VEE": 8, "EVE": 10,
    "VVE": 12, "EEV": 12, "VEV": 14, "EVV": 16, "VVV": 18,
}  # fmt: skip


@functools.cache
def drawn():
    """Matrices, means, rows and a soft plan."""
    rng = np.random.default_rng(1)
    a = rng.normal(size=(K, D, D))
    matrices = a @ a.transpose(0, 2, 1) / D + 0.3 * np.eye(D)
    x = rng.normal(size=(N, D)) @ rng.normal(size=(D, D))
    plan = rng.dirichlet(np.ones(K), N) / N
    return tuple(map(jnp.asarray, (matrices, rng.normal(size=(K, D)), x, plan)))


def parts(matrices):
    """Volumes, shapes and orientations, by NumPy."""
    values, vectors = np.linalg.eigh(matrices)
    volume = np.prod(values, axis=-1) ** (1 / D)
    return volume, values / volume[:, None], vectors


def holds(name, matrices):
    """Whether matrices share what the letters say."""
    volume, shape, vectors = parts(matrices)
    same = {"atol": 1e-9, "rtol": 1e-9}
    if name[0] == "E":
        np.testing.assert_allclose(volume, volume[0], **same)
    if name[1] == "E":
        np.testing.assert_allclose(shape, shape[:1] + 0 * shape, **same)
    if name[1] == "I":
        np.testing.assert_allclose(shape, 1, **same)
    if name[2] == "I":
        np.testing.assert_allclose(matrices * (1 - np.eye(D)), 0, **same)
    if name[2] == "E":
        others = vectors[0].T @ matrices @ vectors[0]
        np.testing.assert_allclose(others * (1 - np.eye(D)), 0, atol=1e-8)
    if name[0] == "V":
        assert np.ptp(volume) > 0.01
    if name[1] == "V":
        assert np.ptp(shape, axis=0).max() > 0.01
    if name[2] == "V":
        turned = np.abs(vectors[0].T @ vectors[1])
        assert np.abs(turned - np.eye(D)).max() > 0.01


@functools.partial(jax.jit, static_argnames="name")
def stepped(name, matrices, mean, x, plan):
    """An M-step, its costs and slope, one more, coordinates there and back, other units."""
    old = Gaussian(mean, STRUCTURES[name].from_matrices(matrices))

    def expected(family):
        return jnp.sum(plan * family.cost(x))

    def again(family):
        return family.maximize(family.statistics(x, plan), jnp.sum(plan, axis=0))

    new = again(old)
    flat, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, new.unconstrained(new)))
    slope = jax.grad(lambda z: expected(new.constrain(unravel(z))))(flat)
    back = old.constrain(new.unconstrained(old))
    scale = jnp.array([2.0, 2.0, 2.0] if new.covariance.one_unit else [2.0, 0.5, 3.0])
    scaled = new.covariance.scale(scale)
    exact = type(new.covariance).from_matrices(new.matrices())
    moved = new.constrain(unravel(0.3 * jnp.cos(jnp.arange(flat.size))))
    return {
        "new": new,
        "costs": jnp.stack([expected(f) for f in (old, new, again(new))]),
        "slope": slope,
        "back": back.matrices(),
        "scaled": (scaled.geometry.matrices(scaled.factor, D) / scale / scale[:, None]),
        "exact": exact.geometry.matrices(exact.factor, D),
        "moved": moved.matrices(),
    }


@pytest.mark.parametrize("name", NEW)
def test_the_m_step_of_a_structure(name):
    """It is the argmin, or falls to it; it keeps the structure; coordinates come back."""
    matrices, mean, x, plan = drawn()
    found = stepped(name, matrices, mean, x, plan)
    new = found["new"]
    before, after, later = found["costs"]
    assert after < before
    assert later <= after + 1e-13
    # rotations common to all components converge over the steps of EM
    assert jnp.abs(found["slope"]).max() < (1e-4 if name in ("EVE", "VVE") else 1e-10)
    assert before - after > 1e3 * (after - later)
    own = np.asarray(new.matrices())
    for matrix in (own, np.asarray(found["moved"])):
        holds(name, matrix)
    for other in ("back", "scaled", "exact"):
        np.testing.assert_allclose(np.broadcast_to(found[other], own.shape), own, atol=1e-9)
    assert new.covariance.n_parameters == COUNTS[name]
    leaves = jax.tree.leaves(new.unconstrained(new))
    assert sum(leaf.size for leaf in leaves) == new.n_parameters
    taken = new.take(np.array([2, 0])).matrices()
    np.testing.assert_allclose(taken, own[[2, 0]], rtol=1e-12)
    cost = multivariate_normal(np.zeros(D), own[0]).logpdf(np.asarray(x - new.mean[0]))
    np.testing.assert_allclose(new.cost(x)[:, 0], -cost, rtol=1e-10)


@pytest.mark.parametrize("name", ["EII", "EEI"])
def test_kernels_of_one_variance_for_all(name):
    """Linear and entrywise passes against costs and statistics, and the contract's parts."""
    matrices, mean, x, plan = drawn()
    family = Gaussian(mean, STRUCTURES[name].from_matrices(matrices))
    columns = Columns(jnp.log(jnp.array([0.2, 0.3, 0.5])))
    weight = jnp.linspace(0, 2, N) / N
    sweeps = [
        kernel.of(columns, family).sweep(x, weight) for kernel in (Reference, Linear, Entrywise)
    ]
    for other in sweeps[1:]:
        chex.assert_trees_all_close(other.statistics, sweeps[0].statistics, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(other.mass, sweeps[0].mass, rtol=1e-11)
    weak = om.priors.Ridge(jnp.asarray(0.1), jnp.array([1.0, 2.0, 3.0]))
    ridge = om.priors.Prior(covariance=weak)
    new = family.maximize(family.statistics(x, plan), plan.sum(0), ridge)

    def penalised(family):
        return jnp.sum(plan * family.cost(x)) + family.penalty(ridge)

    flat, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, new.unconstrained(new)))
    slope = jax.grad(lambda z: penalised(new.constrain(unravel(z))))(flat)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    draws = family.sample(jax.random.key(0), jnp.zeros(20_000, int))
    np.testing.assert_allclose(np.cov(draws.T), family.matrices()[0], atol=0.1)
    assert not family.spurious(
        om.priors.Prior(floor=jnp.asarray(1e-9)), jnp.ones(K) / K, 100.0
    ).any()
    assert not family.imprecise().any()


@pytest.mark.parametrize("name", ["VEI", "VEE", "VVE", "EEV", "VEV"])
def test_components_without_mass_and_floors(name):
    matrices, mean, x, plan = drawn()
    kind = STRUCTURES[name]
    old = Gaussian(mean, kind.from_matrices(matrices))
    without = plan.at[:, 1].set(0)
    statistics = old.statistics(x, without)
    new = old.maximize(statistics, without.sum(0))
    chex.assert_tree_all_finite(new)
    assert jnp.all(new.mean[1] == old.mean[1])
    # rows on a point: the floor keeps every member regular
    point = old.maximize(
        old.statistics(0 * x, plan), plan.sum(0), om.priors.Prior(floor=jnp.asarray(1e-4))
    )
    chex.assert_tree_all_finite(point)
    pivots = point.covariance.geometry.pivots(point.covariance.factor, D)
    assert jnp.all(pivots**2 >= 0.999e-4)
    singular = old.maximize(old.statistics(0 * x, plan), plan.sum(0))
    assert jnp.isnan(singular.cost(x)).any()


def test_names_are_aliases():
    pairs = {"VVV": "full", "EEE": "tied", "VVI": "diagonal", "VII": "spherical"}
    assert all(STRUCTURES[a] is STRUCTURES[b] for a, b in pairs.items())
    assert set(COUNTS) | set(pairs.values()) == set(STRUCTURES)
    with pytest.raises(ValueError, match="'full', .*, 'VVV', not 'XYZ'"):
        Gaussian.of("XYZ")
    matrices = jax.ShapeDtypeStruct((K, D, D), float)
    for name, count in COUNTS.items():
        assert jax.eval_shape(STRUCTURES[name].from_matrices, matrices).n_parameters == count


@pytest.mark.slow
def test_orthogonal_matrices_have_coordinates():
    """The law of a half turn, which Cayley's transform alone misses."""
    half = jnp.asarray(np.diag([-1.0, -1.0, 1.0]))
    rng = np.random.default_rng(0)
    other = jnp.asarray(np.linalg.qr(rng.normal(size=(5, D, D)))[0])
    for value, origin in ((half[None], jnp.eye(D)[None]), (other, other[::-1]), (half, other)):
        z = rotations.turn(value, origin)
        np.testing.assert_allclose(
            np.abs(rotations.turned(origin, z)), np.abs(value + 0 * origin), atol=1e-13
        )
        assert jnp.abs(z).max() < 20
    wide = jnp.asarray(rng.normal(size=(2, 9, 9)))
    square = np.asarray(wide) @ np.asarray(wide).transpose(0, 2, 1)
    np.testing.assert_allclose(rotations.lower_root(wide), np.linalg.cholesky(square), atol=1e-12)
    tangent = jnp.asarray(rng.normal(size=wide.shape))
    slope = jax.jvp(rotations.lower_root, (wide,), (tangent,))[1]
    near = [rotations.lower_form(wide + h * tangent) for h in (1e-6, -1e-6)]
    np.testing.assert_allclose(slope, (near[0] - near[1]) / 2e-6, atol=1e-6)


def test_student_t_of_a_new_structure():
    matrices, mean, x, plan = drawn()
    old = StudentT(mean, STRUCTURES["VEV"].from_matrices(matrices), jnp.full(K, 4.0))
    new = old.maximize(old.statistics(x, plan), plan.sum(0))
    assert jnp.sum(plan * new.cost(x)) < jnp.sum(plan * old.cost(x))
    holds("VEV", np.asarray(new.matrices()))
    described = StudentT.of("VEV", degrees=5).initial(x, plan)
    assert isinstance(described.covariance, STRUCTURES["VEV"])


@pytest.mark.slow
def test_one_column_has_two_models_whatever_their_names(blobs):
    options = {"key": 0, "starts": om.Starts(n_init=1), "limits": om.Limits(max_steps=30)}
    names = ("full", "tied", "spherical", "EEI", "VEV")
    choice = om.select(blobs[:, :1], [2], covariance=names, **options)
    assert [one.covariance for one in choice.candidates] == list(names)
    free, equal = choice.candidates[0].bic, choice.candidates[1].bic
    assert [one.bic for one in choice.candidates] == [free, equal, free, equal, free]
    for one in choice.candidates:
        components = one.solution.mixture.components
        assert type(components.covariance) is STRUCTURES[one.covariance]
        assert one.n_parameters == one.solution.mixture.n_parameters
        value = -float(jnp.sum(one.solution.mixture.log_prob(blobs[:, :1])))
        np.testing.assert_allclose(one.log_likelihood, -value, rtol=1e-10)
    assert "in one column full and spherical and VEV are the same model" in str(choice)
    assert "in one column tied and EEI are the same model" in str(choice)


# ---------------------------------------------------------------------------- factor analysers


def analysed(d=8, q=2, n=150):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(n, d)) * rng.uniform(0.3, 1, d)
    return rng.normal(size=(n, q)) @ rng.normal(size=(q, d)) + noise + 5


def test_one_factor_analyser_is_factor_analysis():
    x = analysed()
    family = FactorAnalyzers.of(n_factors=2)
    ours = om.fit(x, 1, family=family, key=0, limits=om.Limits(gap=1e-8))
    peer = FactorAnalysis(2, tol=1e-12, max_iter=10_000).fit(x)
    np.testing.assert_allclose(ours.log_likelihood(len(x)), len(x) * peer.score(x), atol=1e-6)
    matrix = np.asarray(ours.mixture.components.matrices()[0])
    np.testing.assert_allclose(matrix, peer.get_covariance(), atol=1e-4)
    assert ours.n_parameters == 8 + 8 + 2 * 8 - 1


def test_woodbury_is_the_dense_density():
    rng = np.random.default_rng(3)
    sizes = (2, 7), (2, 7, 3), (2, 7)
    mean, loadings, noise = (jnp.asarray(rng.normal(size=size)) for size in sizes)
    family = FactorAnalyzers(mean, 3 * loadings, 0.1 * jnp.abs(noise) + 0.1)
    x = rng.normal(size=(20, 7))
    dense = [
        -multivariate_normal(np.asarray(m), np.asarray(s)).logpdf(x)
        for m, s in zip(family.mean, family.matrices(), strict=True)
    ]
    np.testing.assert_allclose(family.cost(jnp.asarray(x)), np.stack(dense, 1), rtol=1e-10)
    with pytest.raises(ValueError, match="n_factors=9 must be between 1 and the 8 columns"):
        om.fit(analysed(), 2, family=FactorAnalyzers.of(n_factors=9), key=0)


def test_wide_rows_need_no_matrix_of_all_columns():
    """d = 500, K = 8: the compiled step holds less than one [k, d, d]."""
    n, d, k, q = 200, 500, 8, 3
    family = jax.eval_shape(
        FactorAnalyzers.of(n_factors=q).initial,
        jax.ShapeDtypeStruct((n, d), float),
        jax.ShapeDtypeStruct((n, k), float),
    )

    def step(family, x, plan):
        return family.maximize(family.statistics(x, plan), plan.sum(0)), family.cost(x)

    shapes = jax.ShapeDtypeStruct((n, d), float), jax.ShapeDtypeStruct((n, k), float)
    for function, given in (
        (step, (family, *shapes)),
        (functools.partial(FactorAnalyzers.initial, n_factors=q), shapes),
    ):
        compiled = jax.jit(function).lower(*given).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 8 * k * d * d / 2


@pytest.mark.slow
def test_factor_analysers_find_the_groups():
    """Two groups in sixty columns, each along its own factor."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(2, 60, 1))
    groups = [
        rng.normal(size=(150, 1)) @ loadings[j].T + rng.normal(size=(150, 60)) + 2 * j
        for j in range(2)
    ]
    x = np.concatenate(groups)
    solution = om.fit(x, 2, family="factor_analyzers", key=0)
    labels = np.asarray(solution.mixture.predict(x))
    assert min(np.mean(labels[:150] == labels[0]), np.mean(labels[150:] == 1 - labels[0])) > 0.99
    own = np.asarray(solution.mixture.components.loadings)[labels[[0, -1]], :, 0]
    for a, b in zip(own, loadings[..., 0], strict=True):
        assert abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) > 0.97
