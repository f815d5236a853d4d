"""The contract of every family, over every example it names, and of every form it has."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import EXAMPLES, columns_for, plan_for, rows_for
from jax.flatten_util import ravel_pytree

import otmix_jax as om
from otmix_jax.engine import Entrywise, Linear, Reference
from otmix_jax.families import Affine, Categorical, Frozen, Identity, Noisy, Parts, Subspace
from otmix_jax.families.incomplete import Observed


@pytest.fixture(params=EXAMPLES)
def family(request):
    return request.param


@pytest.fixture
def rows(family):
    return rows_for(family)


@pytest.fixture
def plan(family):
    return plan_for(family)


def expected_cost(family, x, plan):
    cost = family.cost(x)
    return jnp.sum(jnp.where(plan > 0, plan * cost, 0))


def part(rows, where):
    return jax.tree.map(lambda leaf: leaf[where], rows)


def learns_something(family):
    return bool(jax.tree.leaves(family.unconstrained(family)))


def test_statistics_are_additive(family, rows, plan):
    whole = family.statistics(rows, plan)
    first, rest = slice(None, 17), slice(17, None)
    halves = [family.statistics(part(rows, s), plan[s]) for s in (first, rest)]
    added = jax.tree.map(lambda a, b: a + b, *halves)
    chex.assert_trees_all_close(whole, added, rtol=1e-12, atol=1e-15)


def test_the_prepared_cost_is_the_cost(family, rows):
    """It holds what depends on no row, and is no parameter object."""
    prepared = family.prepared_cost()
    assert not isinstance(prepared, om.families.Family)
    # terms of about 10 may cancel to nearly 0
    chex.assert_trees_all_close(jax.jit(prepared)(rows), family.cost(rows), rtol=1e-14, atol=1e-13)


def sweeps_agree(kernel, family, rows):
    """Potentials, plan, value, mass and the M-step of a kernel are those of cost and statistics."""
    weight = jnp.linspace(0, 2, 40) / 40
    columns = columns_for(family)
    ours, reference = (
        jax.jit(
            lambda k=k: (
                k.of(columns, family).rows(rows),
                k.of(columns, family).sweep(rows, weight),
            )
        )()
        for k in (kernel, Reference)
    )
    chex.assert_trees_all_close(ours, reference, rtol=1e-11, atol=1e-13)
    steps = [family.maximize(sweep.statistics, sweep.mass) for _, sweep in (ours, reference)]
    costs = [step.cost(rows) for step in steps]
    chex.assert_trees_all_close(*costs, rtol=1e-9, atol=1e-11)


LINEAR = [example for example in EXAMPLES if example.values[0].linear_form() is not None]
LOCATION = [example for example in EXAMPLES if example.values[0].location_form() is not None]


@pytest.mark.parametrize("family", LINEAR)
def test_the_linear_form_is_the_cost_and_the_statistics(family):
    """A factor of 2 in one natural parameter fails here, whatever the family."""
    sweeps_agree(Linear, family, rows_for(family))


@pytest.mark.parametrize("family", LOCATION)
def test_the_location_form_is_the_cost_and_the_statistics(family):
    sweeps_agree(Entrywise, family, rows_for(family))


def test_the_m_step_minimises_the_expected_cost(family, rows, plan):
    """Exact: its gradient vanishes there, and the Hessian is positive definite. Else it lowers.

    An argmin on the border of the domain (a level that no row has) has neither.
    """
    best = family.maximize(family.statistics(rows, plan), plan.sum(0))
    before, after = (expected_cost(f, rows, plan) for f in (family, best))
    assert after <= before + 1e-12
    inner = getattr(family, "inner", family)
    if not family.exact_m_step or getattr(inner, "scaled", False) or not learns_something(family):
        return
    zeros = jax.tree.map(jnp.zeros_like, best.unconstrained(best))
    flat, unravel = ravel_pytree(zeros)

    def objective(z):
        return expected_cost(best.constrain(unravel(z)), rows, plan)

    np.testing.assert_allclose(jax.grad(objective)(flat), 0, atol=1e-12)
    assert np.linalg.eigvalsh(jax.hessian(objective)(flat)).min() > 0


def test_the_m_step_stops_at_a_stationary_point(family, rows):
    """Repeated from a plan of its own, by EM, the likelihood's gradient vanishes: the right one."""
    problem = om.Problem(rows).checked()
    start = om.Mixture.from_weights(jnp.ones(family.n_components), family)
    end = om.solve(problem, start, tolerance=1e-15, max_steps=400)
    history = np.asarray(end.history)
    steps = history[~np.isnan(history)]
    assert np.diff(steps).max(initial=0) < 1e-12, "the objective rose"
    if om.Status(int(end.status)) > om.Status.STALLED:
        return  # forty rows of a wide family: an empty component, or a collapse, ends it
    objective = om.Objective.of(problem)
    zeros = jax.tree.map(jnp.zeros_like, end.mixture.unconstrained(end.mixture))
    slope = jax.grad(lambda z: objective.loss(end.mixture.constrain(z)))(zeros)
    assert max(float(jnp.abs(leaf).max(initial=0)) for leaf in jax.tree.leaves(slope)) < 2e-4


def test_a_component_without_mass_keeps_its_parameters(family, rows, plan):
    plan = plan.at[:, -1].set(0)
    new = family.maximize(family.statistics(rows, plan), plan.sum(0))
    chex.assert_tree_all_finite(new)
    np.testing.assert_allclose(new.cost(rows).shape, family.cost(rows).shape)


def test_coordinates_come_back(family, rows, plan):
    """constrain and unconstrained are inverse to each other, about any origin."""
    other = family.maximize(family.statistics(rows, plan), plan.sum(0))
    again = family.constrain(other.unconstrained(family))
    np.testing.assert_allclose(again.cost(rows), other.cost(rows), rtol=1e-10)
    zeros = jax.tree.map(jnp.zeros_like, family.unconstrained(family))
    chex.assert_trees_all_close(family.unconstrained(family), zeros, atol=1e-13)
    np.testing.assert_allclose(family.constrain(zeros).cost(rows), family.cost(rows), rtol=1e-12)


def test_the_number_of_parameters(family):
    coordinates = family.unconstrained(family)
    assert sum(leaf.size for leaf in jax.tree.leaves(coordinates)) == family.n_parameters


def test_taking_components(family, rows):
    taken = family.take(np.array([2, 0]))
    assert taken.n_components == 2
    np.testing.assert_allclose(taken.cost(rows), family.cost(rows)[:, [2, 0]], rtol=1e-14)


def frame_of(family):
    """A frame of the kind that the family's rows are fitted in."""
    if isinstance(family, Subspace):
        return Identity()  # densities of some columns have no frame of all
    numpy = jax.tree.map(np.asarray, rows_for(family))
    # rows with noise are framed by their own family, whatever it is made of
    own = family if isinstance(family, Noisy) else getattr(family, "inner", family)
    described = own.described()
    frame = described.frame(numpy, None)
    if isinstance(frame, Observed):  # these rows miss nothing, whatever becomes of its numbers
        return Affine(frame.origin, frame.unit)
    return frame


def test_a_family_leaves_its_frame(family, rows):
    """p of x is p of its image over the volume, whatever the parameters, fitted or not."""
    frame = jax.tree.map(lambda leaf: 3 * jnp.asarray(leaf) + 0.5, frame_of(family))
    there = frame.inverse.into(rows)
    np.testing.assert_allclose(
        family.out_of(frame).cost(there), family.cost(rows) + frame.log_volume, rtol=1e-11
    )
    same = family.out_of(frame).out_of(frame.inverse)
    np.testing.assert_allclose(same.cost(rows), family.cost(rows), rtol=1e-10)


def test_a_family_refuses_frames_that_it_is_not_closed_under(family):
    frame = Affine(jnp.zeros(2), jnp.asarray(2.0))
    own = frame_of(family)
    if isinstance(own, Identity | Parts):
        with pytest.raises(TypeError, match="frame"):
            family.out_of(frame)
    else:
        with pytest.raises(TypeError, match="frame"):
            family.out_of(Parts({}))


def test_dtype_is_kept(family, rows, plan):
    narrow, x, p = om.core.tree.cast((family, rows, plan), jnp.float32)
    new = narrow.maximize(narrow.statistics(x, p), p.sum(0))
    leaves = jax.tree.leaves((narrow.cost(x), new, new.unconstrained(narrow)))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}


def test_initial_is_regular(family, rows, plan):
    if isinstance(family, Frozen | Subspace):
        with pytest.raises(TypeError, match="start of your own|fit the family itself"):
            type(family).initial(rows, plan)
        return
    options = {"levels": 3} if isinstance(family, Categorical) else {}
    start = type(family).initial(rows, plan, **options or dict(family.described().options))
    chex.assert_tree_all_finite(start)
    chex.assert_tree_all_finite(start.cost(rows))


def test_samples_follow_the_density(family):
    """The mean of exp(cost under another - cost) over draws is 1: importance weights integrate."""
    labels = jnp.zeros(40_000, int)
    x = family.sample(jax.random.key(7), labels)
    zeros = family.unconstrained(family)
    near = family.constrain(jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.05), zeros))
    ratio = jnp.exp(family.cost(x)[:, 0] - near.cost(x)[:, 0])
    error = jnp.std(ratio) / jnp.sqrt(len(ratio))
    assert abs(float(jnp.mean(ratio)) - 1) < 5 * float(error) + 1e-12


def test_a_prior_that_would_be_dropped_is_refused(family, rows):
    priors = {
        "mean": om.priors.NormalMean(jnp.zeros(2), 0.1),
        "covariance": om.priors.Ridge(jnp.asarray(0.1), jnp.ones(2)),
        "parts": {"nowhere": om.priors.Prior()},
    }
    mixture = om.Mixture.from_weights(jnp.ones(family.n_components), family)
    for name, prior in priors.items():
        if name in family.priors and name != "parts":
            continue
        with pytest.raises(TypeError, match="prior"):
            om.solve(om.Problem(rows, prior=prior), mixture)
