"""The note's statements as properties of random problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import start
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

import otmix_jax as om
from otmix_jax import transport
from otmix_jax.transport.couplings import Balanced, Penalized, SemiRelaxed

N, K = 15, 4
seeds = st.integers(0, 2**32 - 1)
entropies = st.floats(0.1, 10.0)
settings.register_profile("few", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("few")

F = jax.jit(transport.semi_relaxed_value)
G = jax.jit(transport.entropic_ot_value)
H = jax.jit(lambda c, a, pi, rho, eps: transport.coupled_value(c, a, pi, Penalized(rho), eps))


def draw(seed):
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(-1, 2))
    cost = rng.gamma(1.0, size=(N, K)) * scale
    return rng, cost, rng.dirichlet(np.ones(N)), rng.dirichlet(np.ones(K) * 2)


def softmax_plan(cost, a, pi, epsilon):
    _, conditional = transport.row_softmax(jnp.asarray(cost), jnp.log(pi), 0.0, epsilon)
    return a[:, None] * np.asarray(conditional)


@given(seeds, entropies)
def test_gap_identity(seed, epsilon):
    """I1: any plan with rows a costs F + eps KL(P | P*)."""
    rng, cost, a, pi = draw(seed)
    best = softmax_plan(cost, a, pi, epsilon)
    other = a[:, None] * rng.dirichlet(np.ones(K), size=N)
    primal = np.sum(other * cost) + epsilon * rel_entr(other, np.outer(a, pi)).sum()
    expected = float(F(cost, a, pi, epsilon)) + epsilon * rel_entr(other, best).sum()
    np.testing.assert_allclose(primal, expected, rtol=1e-10)
    np.testing.assert_allclose(
        transport.primal_value(other, cost, a, pi, epsilon), primal, rtol=1e-11
    )


@given(seeds, entropies)
def test_semi_dual_and_lower_bound(seed, epsilon):
    """I2: G is the maximum of the dual; I1: G - F >= eps KL(pi | pi+) >= 0."""
    rng, cost, a, pi = draw(seed)
    balanced, free = float(G(cost, a, pi, epsilon)), float(F(cost, a, pi, epsilon))
    for _ in range(3):
        g = rng.normal(size=K) * epsilon
        f, _ = transport.row_softmax(jnp.asarray(cost), jnp.log(pi), jnp.asarray(g), epsilon)
        assert pi @ g + a @ np.asarray(f) <= balanced + 1e-10 * abs(balanced)
    sizes = softmax_plan(cost, a, pi, epsilon).sum(0)
    divergence = epsilon * rel_entr(pi, sizes).sum()
    assert balanced - free >= divergence - 1e-10 * abs(balanced)


def test_interlacing():
    """I3: along EM in the proportions F_{k+1} <= G_{k+1} <= F_k <= G_k, for 500 problems."""

    def run(key):
        keys = jax.random.split(key, 3)
        cost = jax.random.gamma(keys[0], 1.0, (N, K)) * 3
        a = jax.random.dirichlet(keys[1], jnp.ones(N))
        weights = jax.random.dirichlet(keys[2], jnp.ones(K))

        def step(weights, _):
            values = F(cost, a, weights, 1.0), G(cost, a, weights, 1.0)
            _, conditional = transport.row_softmax(cost, jnp.log(weights))
            return a @ conditional, values

        return jax.lax.scan(step, weights, None, length=5)[1]

    free, balanced = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 500))
    room = 1e-11 * np.abs(balanced)
    assert (free <= balanced + room).all()
    assert (balanced[:, 1:] <= free[:, :-1] + room[:, 1:]).all()
    assert (balanced[:, 0] - free[:, 0]).max() > 0.1, "the problems should not be trivial"


def best_weights(cost, a, epsilon, steps=20_000):
    def step(_, log_weights):
        _, conditional = transport.row_softmax(cost, log_weights, 0.0, epsilon)
        return jnp.log(a @ conditional)

    return jnp.exp(jax.lax.fori_loop(0, steps, step, jnp.log(jnp.full(K, 1 / K))))


best_weights = jax.jit(best_weights)


@given(seeds, entropies)
@settings(max_examples=25)
def test_certificate_is_never_below_the_gap(seed, epsilon):
    """I4: F(pi) - min F <= eps log max D <= eps (max D - 1)."""
    _, cost, a, pi = draw(seed)
    optimum = np.asarray(best_weights(jnp.asarray(cost), jnp.asarray(a), epsilon))
    ratio = (softmax_plan(cost, a, pi, epsilon).sum(0) / pi).max()
    gap = float(F(cost, a, pi, epsilon) - F(cost, a, optimum, epsilon))
    assert -1e-10 <= gap <= epsilon * np.log(ratio) + 1e-10
    assert np.log(ratio) <= ratio - 1 + 1e-15


@given(seeds, entropies)
def test_gauge(seed, epsilon):
    """I5: adding u_i changes no plan; adding v_j leaves the balanced plan, not the other."""
    rng, cost, a, pi = draw(seed)
    u, v = rng.normal(size=(N, 1)), rng.normal(size=K)

    def plan(cost, coupling):
        g = transport.potential(cost, a, pi, coupling, epsilon).g
        _, conditional = transport.row_softmax(jnp.asarray(cost), jnp.log(pi), g, epsilon)
        return np.asarray(conditional)

    for coupling in (SemiRelaxed(), Balanced()):
        np.testing.assert_allclose(plan(cost + u, coupling), plan(cost, coupling), atol=1e-9)
    np.testing.assert_allclose(plan(cost + v, Balanced()), plan(cost, Balanced()), atol=1e-9)
    assert np.abs(plan(cost + v, SemiRelaxed()) - plan(cost, SemiRelaxed())).max() > 1e-3


@given(seeds, entropies)
def test_the_value_grows_with_rho(seed, epsilon):
    """From F to G."""
    _, cost, a, pi = draw(seed)
    path = [float(H(cost, a, pi, rho, epsilon)) for rho in (0.0, 0.1, 1.0, 10.0, np.inf)]
    room = 1e-11 * abs(path[-1])
    assert all(low <= high + room for low, high in zip(path, path[1:], strict=False))
    np.testing.assert_allclose(path[0], F(cost, a, pi, epsilon), rtol=1e-13)
    np.testing.assert_allclose(path[-1], G(cost, a, pi, epsilon), rtol=1e-13)


@given(seeds)
@settings(max_examples=20)
def test_same_minimisers_in_the_proportions(seed):
    """At F's minimiser F = H_rho = G, and G is nowhere lower; convexity along a segment."""
    rng, cost, a, _ = draw(seed)
    optimum = np.asarray(best_weights(jnp.asarray(cost), jnp.asarray(a), 1.0))
    low = float(F(cost, a, optimum, 1.0))
    np.testing.assert_allclose(G(cost, a, optimum, 1.0), low, rtol=1e-8)
    for _ in range(3):
        other = rng.dirichlet(np.ones(K))
        middle = (optimum + other) / 2
        for value in (F, G):
            ends = float(value(cost, a, optimum, 1.0)), float(value(cost, a, other, 1.0))
            assert ends[1] >= low - 1e-9
            assert float(value(cost, a, middle, 1.0)) <= sum(ends) / 2 + 1e-10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "structure",
    ["full"]
    + [pytest.param(s, marks=pytest.mark.nightly) for s in ("tied", "diagonal", "spherical")],
)
def test_proposition_2_3(blobs, structure, dtype):
    """Maximum likelihood is transport: value by value, at the optimum, and at the vertices."""
    x = blobs.astype(dtype)
    rough = start(x, covariance=structure)
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    n = len(x)
    a = np.full(n, 1 / n, dtype)

    def both(mixture):
        cost = mixture.components.cost(jnp.asarray(x))
        weights = mixture.weights
        return float(F(cost, a, weights, 1.0)), float(G(cost, a, weights, 1.0))

    # Part 1: F is the mean negative log-likelihood and bounds G from below, at any mixture.
    free, balanced = both(rough)
    np.testing.assert_allclose(free, om.negative_log_likelihood(rough, x), rtol=tolerance)
    assert balanced >= free - tolerance
    # Part 2: equality at a fixed point of EM.
    done = om.solve(om.Problem(x), rough, tolerance=1e-20, max_steps=5000)
    free, balanced = both(done.mixture)
    np.testing.assert_allclose(balanced, free, rtol=10 * tolerance)
    np.testing.assert_allclose(free, done.value, rtol=tolerance)
    # Part 3: at a vertex of the simplex the plan is a product, and both values agree.
    for j in range(3):
        vertex = om.Mixture.from_weights(jnp.eye(3, dtype=x.dtype)[j], done.mixture.components)
        cost = vertex.components.cost(jnp.asarray(x))[:, j]
        for value in both(vertex):
            np.testing.assert_allclose(value, cost.mean(), rtol=10 * tolerance)


def test_shared_covariance_at_another_epsilon(blobs):
    """F_eps(Sigma) = eps NLL(eps Sigma) + (1 - eps)/2 log det(eps Sigma) + const."""
    rng = np.random.default_rng(0)
    epsilon, left = 0.4, []
    for _ in range(4):
        root = rng.normal(size=(2, 2))
        sigma = root @ root.T + np.eye(2)
        means = jnp.asarray(rng.normal(size=(3, 2)))
        weights = jnp.asarray(rng.dirichlet(np.ones(3)))

        def mixture(matrix, means=means, weights=weights):
            tied = om.families.Tied.from_matrices(jnp.broadcast_to(matrix, (3, 2, 2)))
            return om.Mixture.from_weights(weights, om.families.Gaussian(means, tied))

        value = om.plan(mixture(sigma), blobs, epsilon=epsilon).value
        likelihood = om.negative_log_likelihood(mixture(epsilon * sigma), blobs)
        determinant = np.linalg.slogdet(epsilon * sigma)[1]
        left.append(float(value - epsilon * likelihood - (1 - epsilon) / 2 * determinant))
    np.testing.assert_allclose(left, left[0], rtol=1e-12)
