"""Plans, potentials and values of every coupling: against POT, OTT-JAX and linear programmes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from helpers import start
from jax.test_util import check_grads
from ott.geometry import geometry
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn

import otmix_jax as om
from otmix_jax import transport
from otmix_jax.transport.couplings import Balanced, Penalized, SemiRelaxed, psi, sinkhorn_step

EPSILONS = [0.05, 0.3, 1.0, 4.0, 20.0]
RHOS = [0.0, 0.01, 0.5, 3.0, 100.0, np.inf]


def instance(seed=0, n=25, k=4, scale=1.0):
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, size=(n, k)) * scale, rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(k))


def matrix(cost, a, pi, coupling, epsilon):
    g = transport.potential(cost, a, pi, coupling, epsilon).g
    _, conditional = transport.row_softmax(jnp.asarray(cost), jnp.log(pi), g, epsilon)
    return a[:, None] * np.asarray(conditional)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("rho", RHOS)
def test_plan_and_value_equal_pots(rho, epsilon):
    cost, a, pi = instance(scale=0.5)
    ours = matrix(cost, a, pi, Penalized(rho), epsilon)
    if rho == np.inf:
        theirs = ot.sinkhorn(
            a, pi, cost, epsilon, method="sinkhorn_log", stopThr=1e-14, numItermax=100_000
        )
    else:
        theirs = ot.unbalanced.sinkhorn_unbalanced(
            a, pi, cost, epsilon, reg_m=(np.inf, rho), reg_type="kl",
            stopThr=1e-16, numItermax=200_000,
        )  # fmt: skip
    np.testing.assert_allclose(ours, theirs, atol=1e-8)
    mass = theirs.sum(0)
    value = transport.primal_value(theirs, cost, a, pi, epsilon)
    if 0 < rho < np.inf:
        value += rho * transport.kl_divergence(jnp.asarray(mass), jnp.asarray(pi))
    ours = transport.coupled_value(cost, a, pi, Penalized(rho), epsilon)
    np.testing.assert_allclose(ours, value, rtol=1e-8)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_balanced_value_and_gradient_equal_ott_and_pot(epsilon):
    cost, a, pi = instance(1)

    def theirs(cost):
        problem = linear_problem.LinearProblem(
            geometry.Geometry(cost, epsilon=epsilon), a=jnp.asarray(a), b=jnp.asarray(pi)
        )
        return sinkhorn.Sinkhorn(threshold=1e-11, max_iterations=20_000)(problem).reg_ot_cost

    value, gradient = jax.jit(jax.value_and_grad(theirs))(jnp.asarray(cost))
    ours, slope = jax.value_and_grad(transport.entropic_ot_value)(cost, a, pi, epsilon)
    np.testing.assert_allclose(ours, value, rtol=1e-6)
    np.testing.assert_allclose(slope, gradient, atol=1e-6)
    pot = ot.solve(cost, a, pi, reg=epsilon, reg_type="KL", max_iter=100_000, tol=1e-12)
    np.testing.assert_allclose(ours, pot.value, rtol=1e-7)


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 1e-2, 1e-4])
def test_the_linear_programme_bounds_the_balanced_value(epsilon):
    """OT_0 <= OT_eps <= OT_0 + eps KL(P_0 | a pi^T), so eps -> 0 gives the linear programme."""
    from scipy.optimize import linprog

    cost, a, pi = instance(2, n=12, k=3)
    sums = np.concatenate(
        [np.kron(np.eye(12), np.ones((1, 3))), np.kron(np.ones((1, 12)), np.eye(3))]
    )
    done = linprog(cost.ravel(), A_eq=sums, b_eq=np.concatenate([a, pi]), bounds=(0, None))
    vertex = done.x.reshape(12, 3)
    vertex = np.where(vertex > 1e-13, vertex, 0)
    room = epsilon * float(
        transport.kl_divergence(jnp.asarray(vertex), jnp.asarray(np.outer(a, pi)))
    )
    ours = float(transport.entropic_ot_value(cost, a, pi, epsilon))
    assert done.fun - 1e-9 <= ours <= done.fun + room + 1e-9


HARD = {
    "apart": (1e5, 40, 6, [1.0, 0.01]),
    "one column": (1.0, 30, 1, [0.05, 1.0, 20.0]),
    "many columns": (1.0, 250, 200, [0.1, 1.0]),
    "one row": (1.0, 1, 3, [1.0]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("coupling", [Balanced(), Penalized(2.0)], ids=["balanced", "penalized"])
def test_hard_instances(case, coupling):
    scale, n, k, epsilons = HARD[case]
    cost, a, pi = instance(3, n, k, scale)
    for epsilon in epsilons:
        found = transport.potential(cost, a, pi, coupling, epsilon)
        # The rounding of g, divided by epsilon, is what the plan can be good to.
        assert float(found.residual) < 1e-11 + 1e-15 * np.abs(found.g).max() / epsilon
        assert int(found.n_sweeps) < 150
        value = transport.coupled_value(cost, a, pi, coupling, epsilon)
        free = transport.semi_relaxed_value(cost, a, pi, epsilon)
        assert np.isfinite(value)
        assert value >= free - 1e-9 * abs(free)


def test_clusters_a_thousand_deviations_apart():
    """The plan must carry rows across: their own sizes are not the prescribed ones."""
    x = np.concatenate([np.linspace(-1, 1, 30), 1000 + np.linspace(-1, 1, 10)])[:, None]
    components = om.families.Gaussian(
        jnp.array([[0.0], [1000.0]]), om.families.Spherical(jnp.ones(2))
    )
    mixture = om.Mixture.from_weights(jnp.array([0.5, 0.5]), components)
    plan = om.plan(mixture, x, coupling=Balanced())
    np.testing.assert_allclose(plan.column_marginal, 0.5, atol=1e-9)
    assert 0 <= float(plan.gap) < 1e-6 * float(plan.value)
    # The ten rows that pay least for the way are the ones that go.
    moved = np.asarray(plan.matrix[:30, 1]) * 40
    np.testing.assert_allclose(np.sort(moved), np.r_[np.zeros(20), np.ones(10)], atol=1e-6)


@pytest.mark.slow
def test_zero_weights_zero_proportions_infinite_costs():
    cost, a, pi = instance(4, 12, 4)
    a[2], pi[1] = 0, 0
    a, pi = a / a.sum(), pi / pi.sum()
    cost[0, 0] = cost[5, 3] = np.inf
    cost[:, 1] = np.nan  # an absent column is not read
    kept = np.delete(cost, 1, axis=1), a, np.delete(pi, 1)
    for coupling in (SemiRelaxed(), Penalized(0.7), Balanced()):
        value, slopes = jax.value_and_grad(transport.coupled_value, argnums=(0, 1, 2))(
            cost, a, pi, coupling, 0.8
        )
        np.testing.assert_allclose(value, transport.coupled_value(*kept, coupling, 0.8), rtol=1e-12)
        assert all(np.isfinite(slope).all() for slope in slopes)
        assert not np.any(slopes[0][2])
        assert not np.any(slopes[0][:, 1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "coupling",
    [
        SemiRelaxed(),
        pytest.param(Penalized(0.8), marks=pytest.mark.nightly),
        pytest.param(Balanced(), marks=pytest.mark.nightly),
    ],
    ids=["semi-relaxed", "penalized", "balanced"],
)
def test_derivatives_to_second_order(coupling):
    """In cost, row weights, proportions and epsilon, against finite differences."""
    cost, a, pi = instance(5, 6, 3)

    def value(cost, log_a, log_pi, log_epsilon):
        return transport.coupled_value(
            cost, jnp.exp(log_a), jnp.exp(log_pi), coupling, jnp.exp(log_epsilon)
        )

    arguments = jnp.asarray(cost), jnp.log(a), jnp.log(pi), jnp.log(jnp.array(0.7))
    check_grads(jax.jit(value), arguments, order=2, atol=1e-5, rtol=1e-5)


@pytest.mark.nightly
def test_derivative_in_rho_and_target_sizes():
    cost, a, pi = instance(6, 8, 3)

    def value(rho, sizes):
        coupling = Penalized(jnp.asarray(rho), jnp.asarray(sizes))
        return transport.coupled_value(cost, a, pi, coupling, 0.7)

    arguments = jnp.array(0.9), jnp.array([0.5, 0.2, 0.3])
    check_grads(jax.jit(value), arguments, order=2, atol=1e-5, rtol=1e-5)


def test_target_sizes_draw_the_plan():
    cost, a, pi = instance(7, 40, 3)
    sizes = jnp.array([0.6, 0.3, 0.1])
    far = [
        np.abs(matrix(cost, a, pi, Penalized(r, sizes), 1.0).sum(0) - sizes).max()
        for r in (0.1, 1, 10)
    ]
    assert far[0] > far[1] > far[2]
    exact = matrix(cost, a, pi, Balanced(sizes), 1.0).sum(0)
    np.testing.assert_allclose(exact, sizes, atol=1e-12)
    limit = matrix(cost, a, pi, Penalized(np.inf, sizes), 1.0)
    np.testing.assert_allclose(limit, matrix(cost, a, pi, Balanced(sizes), 1.0), atol=1e-13)


def test_newton_needs_a_tenth_of_sinkhorn(faithful):
    """On Old Faithful, two components, sizes that are not the likelihood's own."""
    mixture = om.fit(faithful, 2, key=0).mixture
    arguments = mixture.components.cost(jnp.asarray(faithful)), jnp.ones(272), jnp.array([0.4, 0.6])
    newton = transport.potential(*arguments, Balanced(), 1.0)
    sinkhorn_only = transport.potential(
        *arguments, Balanced(), 1.0, inner=transport.Inner(newton=False, max_sweeps=100_000)
    )
    assert int(newton.n_sweeps) <= 10
    assert int(sinkhorn_only.n_sweeps) > 100
    np.testing.assert_allclose(newton.g, sinkhorn_only.g, atol=1e-8)


def test_rates_are_the_formulas(faithful):
    """EM in the proportions contracts at 1 - s_min, Sinkhorn at s_2, to 2 %."""
    initial = start(faithful, 3, "tied")
    components = initial.components
    cost = components.cost(jnp.asarray(faithful))
    a = jnp.full(272, 1 / 272)
    log_weights = jnp.log(jnp.ones(3) / 3)

    @jax.jit
    def sweep(log_weights, g):
        _, conditional = transport.row_softmax(cost, log_weights, g)
        plan = a[:, None] * conditional
        return plan.sum(0), plan.T @ conditional

    weights = [log_weights]
    for _ in range(400):
        weights.append(jnp.log(sweep(weights[-1], jnp.zeros(3))[0]))
    fixed = weights[-1]
    errors = [float(jnp.abs(w - fixed).max()) for w in weights]
    late = next(i for i, e in enumerate(errors) if e < 1e-6)
    measured = errors[late + 1] / errors[late]
    mass, overlap = sweep(fixed, jnp.zeros(3))
    np.testing.assert_allclose(mass, jnp.exp(fixed), atol=1e-12)
    np.testing.assert_allclose(measured, transport.proportions_rate(overlap, fixed), rtol=0.02)

    target = jnp.log(jnp.array([0.5, 0.3, 0.2]))
    g, gaps = jnp.zeros(3), []
    for _ in range(3000):
        mass, overlap = sweep(target, g)
        gaps.append(float(jnp.abs(mass - jnp.exp(target)).sum()))
        g = sinkhorn_step(g, mass, target, 1.0, np.inf)
    late = next(i for i, e in enumerate(gaps) if e < 1e-7)
    scaled = overlap / jnp.sqrt(jnp.exp(target)[:, None] * jnp.exp(target))
    second = np.sort(np.linalg.eigvalsh(scaled))[-2]
    np.testing.assert_allclose(gaps[late + 1] / gaps[late], second, rtol=0.02)


@pytest.mark.parametrize("rho", [1e-8, 1e-2, 1.0, 1e3, 1e9, np.inf])
def test_psi_keeps_its_digits(rho):
    """Against 50-digit arithmetic; a direct logarithm is wrong in the second digit at 1e9."""
    from mpmath import mp, mpf

    g, b = np.array([0.3, -1.2, 2.0]), np.array([0.2, 0.5, 0.3])
    mp.dps = 50
    exact = (
        sum(mpf(x) * mpf(y) for x, y in zip(b, g, strict=True))
        if rho == np.inf
        else -mpf(rho)
        * mp.log(sum(mpf(x) * mp.exp(-mpf(y) / mpf(rho)) for x, y in zip(b, g, strict=True)))
    )
    np.testing.assert_allclose(psi(jnp.asarray(g), jnp.log(b), rho), float(exact), rtol=1e-13)


@pytest.fixture
def fitted(faithful):
    return om.fit(faithful, 3, key=0, covariance="tied", starts=om.Starts(n_init=2)).mixture


@pytest.mark.slow
@pytest.mark.parametrize(
    "coupling", [SemiRelaxed(), Penalized(0.4), Balanced(jnp.array([0.2, 0.3, 0.5]))], ids=str
)
def test_the_plan_is_applied_tile_by_tile(faithful, fitted, coupling):
    """Seven rows a tile, a ragged last one, a row of weight zero: as the whole matrix has it."""
    weight = np.ones(len(faithful))
    weight[5] = 0
    plan = om.plan(fitted, faithful, sample_weight=weight, coupling=coupling, epsilon=0.7)
    engine = om.engine.Engine(om.engine.Guarded, om.engine.Tiled(7))
    plan = dataclasses.replace(plan, engine=engine)
    whole = np.asarray(plan.matrix)
    rng = np.random.default_rng(0)
    v, u = rng.normal(size=(3, 2)), rng.normal(size=(272, 4))
    np.testing.assert_allclose(plan.apply(v), whole @ v, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(plan.apply(v[:, 0]), whole @ v[:, 0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(plan.apply_transpose(u), whole.T @ u, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(plan.row_marginal, weight / 271, rtol=1e-12)
    np.testing.assert_allclose(plan.column_marginal, whole.sum(0), rtol=1e-12)
    cost = fitted.components.cost(jnp.asarray(faithful))
    rebuilt = (weight / 271)[:, None] * np.exp(
        (plan.f[:, None] + plan.g - cost) / 0.7 + fitted.log_weights
    )
    np.testing.assert_allclose(whole, rebuilt, rtol=1e-10)
    assert float(plan.gap) + 1e-13 >= 0
    assert float(plan.gap) < 1e-11
    assert jax.make_jaxpr(lambda p: p.apply(v))(plan).pretty_print().count("272,3]") == 0


def test_the_gap_is_a_certificate_away_from_the_optimum(faithful, fitted):
    """Weak duality at any potentials: the dual below the optimum, the rounded plan above."""
    exact = float(om.plan(fitted, faithful, coupling=Balanced()).value)
    plan = om.plan(fitted, faithful, coupling=Balanced())
    rng = np.random.default_rng(0)
    for _ in range(5):
        potential = transport.Potential(
            jnp.asarray(rng.normal(size=3)), plan.potential.residual, plan.potential.n_sweeps
        )
        moved = dataclasses.replace(plan, potential=potential)
        assert float(moved.dual_value) < exact < float(moved.value)


@pytest.mark.slow
def test_extreme_entropies_are_finite(faithful, fitted):
    cost = fitted.components.cost(jnp.asarray(faithful))
    hard = cost.min(1).mean()
    mean = float((cost @ fitted.weights).mean())
    for epsilon, limit in [(0.0, hard), (1e-30, hard), (1e30, mean), (1e8, mean)]:
        value, slope = jax.value_and_grad(transport.semi_relaxed_value)(
            cost, jnp.ones(272), fitted.weights, epsilon
        )
        np.testing.assert_allclose(value, limit, rtol=1e-6)
        assert np.isfinite(slope).all()
        np.testing.assert_allclose(slope.sum(), 1, rtol=1e-9)
    plan = om.plan(fitted, faithful, epsilon=0.0)
    assert set(np.unique(np.asarray(plan.matrix) * 272).round(12)) == {0.0, 1.0}
    np.testing.assert_array_equal(plan.matrix.argmax(1), cost.argmin(1))
    np.testing.assert_allclose(plan.value, hard, rtol=1e-12)


def test_float32_potentials():
    cost, a, pi = (leaf.astype(np.float32) for leaf in instance(8))
    found = transport.potential(cost, a, pi, Balanced(), 0.5)
    assert found.g.dtype == jnp.float32
    wide = transport.potential(
        cost.astype(float), a.astype(float), pi.astype(float), Balanced(), 0.5
    )
    np.testing.assert_allclose(found.g, wide.g, atol=1e-4)


def test_a_target_of_zero_empties_its_column(faithful, fitted):
    plan = om.plan(fitted, faithful, coupling=Balanced(jnp.array([0.5, 0.5, 0.0])))
    np.testing.assert_allclose(plan.column_marginal, [0.5, 0.5, 0.0], atol=1e-11)
    assert float(plan.potential.residual) < 1e-11
    assert 0 <= float(plan.gap) + 1e-12 < 1e-9


def test_an_absent_row_may_hold_anything(faithful, fitted):
    broken = faithful.copy()
    broken[4] = np.nan
    weight = np.ones(len(faithful))
    weight[4] = 0
    for coupling in (SemiRelaxed(), Balanced()):
        ours = om.plan(fitted, broken, sample_weight=weight, coupling=coupling)
        kept = om.plan(fitted, np.delete(faithful, 4, axis=0), coupling=coupling)
        np.testing.assert_allclose(ours.column_marginal, kept.column_marginal, rtol=1e-10)


@pytest.mark.slow
def test_the_derivative_in_epsilon_with_an_infinite_cost():
    cost = jnp.array([[0.0, jnp.inf], [1.0, 0.5]])

    def value(epsilon):
        return transport.semi_relaxed_value(cost, jnp.ones(2), jnp.ones(2), epsilon)

    h = 1e-6
    numeric = (value(1 + h) - value(1 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(value)(1.0), numeric, rtol=1e-7)
