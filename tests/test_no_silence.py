"""Answers that were wrong without a word, each with what would have caught it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import PRINTED
from helpers import assert_same_mixture, start, status
from test_families import sweeps_agree

import otmix_jax as om
from otmix_jax.core.tree import replace
from otmix_jax.engine import Entrywise, Linear
from otmix_jax.families import pytree


@pytree
class Doubled(PRINTED["Exponential"]):
    """A linear form that is off by a factor, beside a right cost and right statistics."""

    rate: jax.Array = om.families.parameter(om.families.POSITIVE)

    def cost(self, x):
        return super().linear_form().costs(x)

    def linear_form(self):
        form = super().linear_form()
        return replace(form, natural_parameters=form.natural_parameters.at[:, 1:].multiply(2))


@pytree
class Displaced(om.families.Gaussian):
    """A location form whose pivots are off, beside a right cost."""

    mean: jax.Array = om.families.parameter(om.families.REAL)
    covariance: om.families.Covariance = om.families.parameter(om.families.NESTED)

    def location_form(self):
        form = super().location_form()
        return replace(form, pivot=form.pivot + 1e-6)


def test_a_planted_fault_in_a_form_is_caught():
    """By the very checks that run over every example of every family."""
    honest = PRINTED["Exponential"].examples()["rates"]
    rows = honest.sample(jax.random.key(0), jnp.arange(40) % 3)
    sweeps_agree(Linear, honest, rows)
    with pytest.raises(AssertionError):
        sweeps_agree(Linear, Doubled(honest.rate), rows)
    gaussian = om.families.Gaussian.examples()["full"]
    rows = gaussian.sample(jax.random.key(0), jnp.arange(40) % 3)
    with pytest.raises(AssertionError):
        sweeps_agree(Entrywise, Displaced(gaussian.mean, gaussian.covariance), rows)


@pytest.fixture(scope="module")
def counts():
    """[200, 2] counts around 3 and 12."""
    rng = np.random.default_rng(0)
    return rng.poisson(np.where(np.arange(200)[:, None] < 80, 3, 12), size=(200, 2))


@pytest.mark.parametrize("entry", [om.fit, om.fit_batch, om.select])
@pytest.mark.parametrize(
    "goal",
    [
        om.Goal(prior=om.priors.NormalMean(np.zeros(2), 0.1)),
        om.Goal(prior=om.priors.Ridge(0.1, np.ones(2))),
        om.Goal(ridge=1e-3),
    ],
)
def test_a_prior_without_a_use_is_refused(counts, entry, goal):
    x, k = ([counts], 2) if entry is om.fit_batch else (counts, [2] if entry is om.select else 2)
    with pytest.raises(TypeError, match="no use for a prior|no covariance for a ridge"):
        entry(x, k, family="poisson", key=0, goal=goal)


def test_a_student_refuses_a_prior_on_its_mean_and_takes_a_ridge(faithful):
    mean = om.priors.NormalMean(faithful.mean(0), 0.1)
    with pytest.raises(TypeError, match="no use for a prior on its mean"):
        om.fit(faithful, 2, family="student_t", key=0, goal=om.Goal(prior=mean))
    ridge = om.priors.Ridge(0.05, faithful.var(0))
    solution = om.fit(faithful, 2, family="student_t", key=0, goal=om.Goal(prior=ridge))
    problem = om.Problem(faithful, prior=ridge)
    objective = om.Objective.of(problem.checked()).loss(solution.mixture)
    np.testing.assert_allclose(solution.objective, objective, rtol=1e-10)
    assert solution.objective > solution.value + 1e-3


def test_a_part_of_a_prior_stands_for_the_whole(faithful):
    ridge = om.priors.Ridge(0.05, faithful.var(0))
    whole = om.priors.Prior(covariance=ridge)
    fits = [om.fit(faithful, 2, key=0, goal=om.Goal(prior=p)) for p in (ridge, whole)]
    assert_same_mixture(fits[0].mixture, fits[1].mixture)
    initial = start(faithful, 2)
    runs = [om.solve(om.Problem(faithful, prior=p), initial) for p in (ridge, whole)]
    assert runs[0].objective == runs[1].objective
    with pytest.raises(TypeError, match="prior must be"):
        om.fit(faithful, 2, key=0, goal=om.Goal(prior=3.0))


@pytest.mark.parametrize("structure", ["full", "tied"])
def test_no_parameter_keeps_a_stale_inverse(faithful, structure):
    """Costs after a change of frame, of coordinates, of fields are those of the new parameters."""
    components = om.fit(faithful, 2, key=0, covariance=structure).mixture.components
    faithful = jnp.asarray(faithful)
    frame = om.families.Affine(jnp.zeros(2), jnp.asarray(2.0))
    moved = components.out_of(frame)
    expected = components.cost(faithful) + 2 * np.log(2)
    np.testing.assert_allclose(moved.cost(2 * faithful), expected, rtol=1e-12)
    np.testing.assert_allclose(moved.prepared_cost()(2 * faithful), expected, rtol=1e-12)
    assert not isinstance(components.prepared_cost(), om.families.Family)


def test_epsilon_is_none_unless_it_is_given(faithful):
    """A traced 1 would pay for a division by it in every pass."""
    mixture = start(faithful, 2)
    assert om.plan(mixture, faithful).columns.epsilon is None
    for entry in (om.plan, om.certificate):
        assert inspect.signature(entry).parameters["epsilon"].default is None
    one, none = (om.certificate(mixture, faithful, epsilon=e) for e in (1.0, None))
    np.testing.assert_allclose(one.gap, none.gap, rtol=1e-9)


def test_a_start_of_another_size_or_family_is_refused(faithful, counts):
    initial = start(faithful, 3)
    with pytest.raises(ValueError, match="initial has 3 components, but n_components=5"):
        om.fit(faithful, 5, key=0, starts=om.Starts(initial=initial))
    with pytest.raises(ValueError, match="initial has Full covariances, covariance='tied'"):
        om.fit(faithful, 3, key=0, covariance="tied", starts=om.Starts(initial=initial))
    with pytest.raises(ValueError, match="initial has Gaussian components, family is Poisson"):
        om.fit(counts, 3, key=0, family="poisson", starts=om.Starts(initial=initial))


def test_a_start_says_of_what_family_it_is(counts):
    first = om.fit(counts, 2, key=0, family="poisson")
    again = om.fit(counts, 2, key=0, starts=om.Starts(initial=first.mixture))
    assert status(again) == "CONVERGED"
    np.testing.assert_allclose(again.value, first.value, rtol=1e-9)
    np.testing.assert_allclose(again.mixture.components.rate, first.mixture.components.rate, 1e-3)


def test_options_are_refused_by_name():
    with pytest.raises(ValueError, match="family must be one of gaussian"):
        om.families.describe("gausian")
    with pytest.raises(TypeError, match="Poisson has no option 'covariance'"):
        om.families.describe("poisson", "tied")
    with pytest.raises(ValueError, match="covariance must be one of"):
        om.families.Gaussian.of("banded")
    with pytest.raises(TypeError, match="in the description"):
        om.families.describe(om.families.Gaussian.of("tied"), "full")
    assert om.families.Gaussian.of("tied") == om.families.describe(None, "tied")
    assert str(om.families.StudentT.of("tied", degrees=4)) == (
        "StudentT(covariance=tied, degrees=4.0)"
    )


def test_the_three_entry_points_understand_the_same_options():
    shared = {"key", "family", "covariance", "sample_weight", "goal", "starts", "limits", "solver"}
    for entry in (om.fit, om.fit_batch, om.select):
        assert shared | {"engine"} <= set(inspect.signature(entry).parameters)


@pytest.mark.slow
def test_select_understands_goals_starts_and_engines(faithful):
    """Epsilon, coupling, held proportions, a prior, a given start, an engine: each changes it."""
    options = {"key": 0, "covariance": ("tied",), "limits": om.Limits(tolerance=1e-10)}
    few = om.Starts(n_init=2)
    prior = om.Goal(prior=om.priors.NormalMean(faithful.mean(0), 0.5), ridge=0.0)
    strong = om.select(faithful, [2], goal=prior, starts=few, **options).best
    problem = om.Problem(faithful, prior=prior.prior)
    objective = om.Objective.of(problem.checked()).loss(strong.mixture)
    np.testing.assert_allclose(strong.objective, objective, rtol=1e-9)
    goal = om.Goal(coupling=om.couplings.Balanced(np.full(2, 0.5)))
    even = om.select(faithful, [2], goal=goal, starts=few, **options).best
    np.testing.assert_allclose(even.mixture.weights, 0.5)
    best = om.fit(faithful, 2, starts=om.Starts(n_init=4), **{**options, "covariance": "tied"})
    given = om.Starts(n_init=1, initial=best.mixture)
    chosen = om.select(faithful, [1, 2], starts=given, **options)
    assert int(chosen.candidates[1].solution.n_steps) <= 2, "it starts where the fit ended"
    engine = om.engine.Engine(om.engine.Reference, om.engine.Tiled(64))
    tiled = om.select(faithful, [2], starts=few, engine=engine, **options).best
    plain = om.select(faithful, [2], starts=few, **options).best
    np.testing.assert_allclose(tiled.value, plain.value, rtol=1e-9)
