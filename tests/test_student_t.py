"""Student-t components: the law down to the Gaussian, and learned degrees of freedom."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats
from contracts import plan_for, rows_for

import otmix_jax as om
from otmix_jax.core import student
from otmix_jax.families import Full, LearnedStudentT, SharedStudentT, StudentT
from otmix_jax.families.student_t import MOST_DEGREES

DATA = Path(__file__).parent / "data" / "reference"
DEGREES = (0.1, 1.0, 5.0, 100.0, 1e4, 1e8)


def constant(inverse, d):
    half = 1 / (2 * inverse)
    gap = mpmath.loggamma(half) - mpmath.loggamma(half + mpmath.mpf(d) / 2)
    return gap + mpmath.mpf(d) / 2 * mpmath.log(half)


@pytest.mark.parametrize("d", [1, 2, 3, 51])
def test_the_constant_and_its_derivative_have_all_digits(d):
    inverse = 1 / jnp.array(DEGREES)
    slope = jax.vmap(jax.grad(lambda t: student.log_constant(t, d)))(inverse)
    with mpmath.workdps(50):
        exact = [mpmath.mpf(float(t)) for t in inverse]
        right = [float(constant(t, d)) for t in exact]
        slopes = [float(mpmath.diff(lambda t: constant(t, d), t)) for t in exact]
    np.testing.assert_allclose(student.log_constant(inverse, d), right, rtol=1e-13, atol=1e-30)
    np.testing.assert_allclose(slope, slopes, rtol=1e-12, atol=1e-14)


def test_derivatives_in_inverse_degrees_have_all_digits():
    inverse = 1 / jnp.array(DEGREES)
    half = jnp.array([0.0, 1e-6, 0.3, 4.0, 1e3, 1e30])
    d = 3
    found = student.by_inverse(jnp.tile(half[:, None], (1, len(inverse))), inverse, d)
    share = np.asarray(half)[:, None] / (1 + 2 * np.outer(half, inverse))
    scales = d * share, 2 * d * share**2  # what the two terms of each may cancel from
    with mpmath.workdps(50):
        for order in (1, 2):
            right = [
                [
                    float(
                        mpmath.diff(
                            lambda t, h=h: (1 / t + d) / 2 * mpmath.log1p(2 * h * t),
                            mpmath.mpf(float(theta)),
                            order,
                        )
                    )
                    for theta in inverse
                ]
                for h in map(lambda h: mpmath.mpf(float(h)), half)
            ]
            error = np.abs(found[order - 1] - np.array(right))
            assert (error <= 1e-12 * (np.abs(right) + scales[order - 1])).all()


def test_densities_are_those_of_scipy_and_of_the_gaussian_in_the_limit():
    family = StudentT.examples()["full"]
    x = rows_for(family)
    for j in range(3):
        law = scipy.stats.multivariate_t(
            family.mean[j], family.matrices()[j], float(family.degrees[j])
        )
        np.testing.assert_allclose(-family.cost(x)[:, j], law.logpdf(x), rtol=1e-11)
    near = om.core.tree.replace(family, degrees=jnp.full(3, 1e10))
    gaussian = om.families.Gaussian(family.mean, family.covariance)
    square = 2 * gaussian.half_square(x)
    bound = (square**2 + 4 * square + 4) / 1e10
    assert (jnp.abs(near.cost(x) - gaussian.cost(x)) <= bound + 1e-13).all()


@pytest.mark.parametrize("kind", [LearnedStudentT, SharedStudentT])
def test_the_degrees_take_a_newton_step_on_the_likelihood(kind):
    """Slope and curvature, against derivatives of the cost itself."""
    family = kind.examples()["full"]
    x, plan = rows_for(family), plan_for(family)

    def expected(inverse):
        return jnp.sum(plan * om.core.tree.replace(family, degrees=1 / inverse).cost(x))

    inverse = 1 / family.degrees
    mass = jnp.sum(plan, axis=0)
    fixed = StudentT(family.mean, family.covariance, jnp.broadcast_to(family.degrees, 3))
    slope, curvature, moved, same = jax.jit(
        lambda: (
            jax.grad(expected)(inverse),
            jax.hessian(expected)(inverse),
            *(f.maximize(f.statistics(x, plan), mass) for f in (family, fixed)),
        )
    )()
    curvature = jnp.diagonal(curvature) if curvature.ndim else curvature
    plain = inverse - slope / jnp.where(curvature > 0, curvature, jnp.inf)
    taken = (curvature > 0) & (plain + 1 / 60 < 4 * (inverse + 1 / 60))
    taken &= plain + 1 / 60 > (inverse + 1 / 60) / 4
    taken &= plain > 1 / MOST_DEGREES
    assert np.any(taken)
    np.testing.assert_allclose(
        np.where(taken, 1 / moved.degrees, 0), np.where(taken, plain, 0), rtol=1e-8
    )
    # means and scales go as with fixed degrees
    np.testing.assert_allclose(moved.mean, same.mean, rtol=1e-12)
    np.testing.assert_allclose(moved.matrices(), same.matrices(), rtol=1e-12)


def entry(name):
    known = json.loads((DATA / "reference.json").read_text())[name]
    return known, np.loadtxt(DATA / "faithful.csv", delimiter=",", skiprows=1)


def optimum(known, kind):
    """A mixture at teigen's optimum after Newton's method, but for the degrees."""
    right = known["polished_parameters"]
    factor = jnp.linalg.cholesky(jnp.array(right["sigma"]))
    degrees = jnp.full(known["K"], 10.0)
    components = kind(jnp.array(right["mean"]), Full(factor), degrees)
    return om.Mixture.from_weights(jnp.array(right["pro"]), components)


def test_a_fit_reaches_the_optimum_of_teigen():
    known, x = entry("t_teigen_faithful_K2")
    solution = om.fit(x, 2, family=StudentT.of("full", degrees="learn"), key=0)
    assert abs(float(solution.log_likelihood(len(x))) - known["polished_loglik"]) < 1e-5
    components, right = solution.mixture.components, known["polished_parameters"]
    order = np.argsort(components.mean[:, 0])
    np.testing.assert_allclose(components.mean[order], right["mean"], rtol=1e-3)
    np.testing.assert_allclose(solution.mixture.weights[order], right["pro"], rtol=1e-3)
    # the likelihood is flat in them: what is left to win is what `Limits.gap` allows
    np.testing.assert_allclose(components.degrees[order][0], right["df"][0], rtol=1e-2)
    assert float(components.degrees[order][1]) == MOST_DEGREES
    assert solution.n_parameters == 2 * (2 + 3 + 1) + 1


@pytest.mark.parametrize("k", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_em_ends_at_the_optimum_of_teigen(k):
    known, x = entry(f"t_teigen_faithful_K{k}")
    start = optimum(known, LearnedStudentT)
    end = om.solve(om.Problem(x), start, om.solvers.Squarem(), tolerance=1e-13, max_steps=500)
    gain = float(end.log_likelihood(len(x))) - known["polished_loglik"]
    assert -1e-7 < gain < 1e-5  # the polished degrees are about 1e7, ours go on
    right = np.array(known["polished_parameters"]["df"])
    found = np.asarray(end.mixture.components.degrees)
    np.testing.assert_allclose(found[right < 1e3], right[right < 1e3], rtol=1e-3)
    np.testing.assert_array_equal(found[right > 1e3], MOST_DEGREES)


def test_a_component_at_the_bound_has_no_derivative_in_its_degrees():
    family = LearnedStudentT.examples()["full"]
    family = om.core.tree.replace(family, degrees=jnp.array([4.0, MOST_DEGREES, 9.0]))
    x = rows_for(family)
    zeros = jax.tree.map(jnp.zeros_like, family.unconstrained(family))
    slope = jax.jit(jax.grad(lambda z: jnp.sum(family.constrain(z).cost(x))))(zeros)["degrees"]
    np.testing.assert_array_equal(np.asarray(slope) == 0, [False, True, False])
    far = family.constrain({"degrees": jnp.array([1e3, 1e3, -1e3])}).degrees
    assert np.isfinite(np.asarray(far)).all()
    assert float(far[0]) == MOST_DEGREES


def test_the_degrees_are_options():
    kinds = {
        "learn": LearnedStudentT,
        "own": LearnedStudentT,
        "shared": SharedStudentT,
        5: StudentT,
    }
    for degrees, kind in kinds.items():
        assert StudentT.of("tied", degrees=degrees).family is kind
    assert SharedStudentT.of("tied").family is SharedStudentT
    x = rows_for(StudentT.examples()["full"])
    plan = jnp.full((40, 2), 1 / 80)
    counts = {"learn": 2, "shared": 1, 5.0: 0}
    for degrees, count in counts.items():
        start = StudentT.of("full", degrees=degrees).initial(x, plan)
        assert start.n_parameters == 2 * (2 + 3) + count
    with pytest.raises(ValueError, match="degrees must be a number or one of"):
        StudentT.of(degrees="all")
    with pytest.raises(ValueError, match="degrees must be > 0"):
        StudentT.of(degrees=-1.0)
