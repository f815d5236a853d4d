"""Pictures: what is drawn is held against the numbers that it should show."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from contracts import EXAMPLES, rows_for
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import stats

import otmix_jax as om
from otmix_jax import families as laws
from otmix_jax.plot import canvas, spheres, supports

mpl.use("Agg")
HELD = 1 - np.exp(-2.0)
"""What an ellipse at two deviations holds."""


@pytest.fixture(autouse=True)
def close_figures():
    plt.close("all")  # what other tests left
    settings = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == settings
    plt.close("all")


def mixture_of(components, weights=None):
    k = components.n_components
    return om.Mixture.from_weights(jnp.asarray(weights or np.ones(k)), components)


def draws(model, n=150, seed=0):
    return jax.tree.map(np.array, model.sample(jax.random.key(seed), n))


@pytest.fixture(scope="module")
def pair():
    """Two Gaussians in the plane."""
    matrices = jnp.array([[[1.0, 0.6], [0.6, 2.0]], [[0.5, 0.0], [0.0, 0.1]]])
    mean = jnp.array([[0.0, 0.0], [3.0, 1.0]])
    return mixture_of(laws.Gaussian(mean, laws.Full.from_matrices(matrices)), [0.3, 0.7])


@pytest.fixture(scope="module")
def solution(blobs):
    problem = om.Problem(blobs)
    start = om.initializers.random_rows(jax.random.key(0), problem, n_components=2)
    return om.solve(problem, start, max_steps=40)


def outline(patch):
    return patch.get_patch_transform().transform(patch.get_path().vertices)


def check_ellipse(patch, mean, matrix):
    """Its longest and shortest radius are 2 sqrt(eigenvalue), along the eigenvectors."""
    lengths, vectors = np.linalg.eigh(np.asarray(matrix))
    np.testing.assert_allclose(patch.center, mean, atol=1e-12)
    np.testing.assert_allclose([patch.width, patch.height], 4 * np.sqrt(lengths), rtol=1e-9)
    angle = np.radians(patch.angle)
    across = abs(np.array([np.cos(angle), np.sin(angle)]) @ vectors[:, 0])
    assert across == pytest.approx(1, abs=1e-9)


def curves(axes):
    """Vertices of each contour line's paths, by level."""
    (found,) = axes.collections[-1:]
    return [path.vertices for path in found.get_paths()]


# --- mixtures ---


def test_ellipses_are_the_covariances(faithful):
    mixture = om.fit(faithful, 2, key=0, starts=om.Starts(n_init=1)).mixture
    axes = om.plot.mixture(mixture, faithful, deviations=2)
    assert len(axes.patches) == 2
    for patch, mean, matrix in zip(
        axes.patches,
        np.asarray(mixture.components.mean),
        np.asarray(mixture.components.matrices()),
        strict=True,
    ):
        around = outline(patch) - mean
        distance = np.einsum("ni,ij,nj->n", around, np.linalg.inv(matrix), around)
        on_curve = np.isclose(distance, 4.0, rtol=1e-9)
        assert on_curve.sum() >= 8  # the spline's knots lie on the ellipse
        assert distance.min() > 3.9


def test_points_are_coloured_by_the_plan(pair):
    x, figure = draws(pair), Figure()
    axes = figure.subplots()
    assert om.plot.mixture(pair, x, axes=axes, columns=("a", "b")) is axes
    assert plt.get_fignums() == []
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("a", "b")
    points = axes.collections[0]
    np.testing.assert_array_equal(points.get_offsets(), x)
    share = np.asarray(pair.responsibilities(x))
    mixed = share[:, :1] * canvas.COLOURS[0] + share[:, 1:] * canvas.COLOURS[1]
    np.testing.assert_allclose(points.get_facecolors()[:, :3], mixed, atol=1e-6)
    for j, patch in enumerate(axes.patches):
        check_ellipse(patch, pair.components.mean[j], pair.components.matrices()[j])
    balanced = om.plan(pair, x, coupling=om.couplings.Balanced())
    own = om.plot.mixture(pair, x, plan=balanced).collections[0].get_facecolors()
    share = np.asarray(balanced.matrix) * len(x)
    np.testing.assert_allclose(own[:, :3], np.clip(share @ canvas.COLOURS[:2], 0, 1), atol=1e-6)


def test_rows_of_weight_zero_and_absent_components_are_not_drawn(pair):
    x = draws(pair, 20)
    x[3] = np.nan
    weight = np.ones(20)
    weight[[3, 7]], weight[5] = 0, 2
    points = om.plot.mixture(pair, x, sample_weight=weight).collections[0]
    np.testing.assert_array_equal(points.get_offsets(), np.delete(x, [3, 7], 0))
    sizes = points.get_sizes()
    assert sizes[4] == pytest.approx(2 * sizes[0])  # row 5, of weight 2
    one = om.Mixture(jnp.array([0.0, -jnp.inf]), pair.components)
    assert len(om.plot.mixture(one, x, sample_weight=weight).patches) == 1


def test_many_rows_are_thinned_and_many_components_told_apart(pair):
    x = draws(pair, 6000)
    points = om.plot.mixture(pair, x).collections[0]
    assert len(points.get_offsets()) == canvas.MOST_POINTS
    assert points.get_rasterized()
    # the colour of each is its own row's still
    seen, place = np.asarray(points.get_offsets()), {tuple(row): i for i, row in enumerate(x)}
    rows = [place[tuple(row)] for row in seen.tolist()]
    colours = canvas.shades(np.asarray(pair.responsibilities(x)))[rows]
    np.testing.assert_allclose(points.get_facecolors()[:, :3], colours, atol=1e-6)
    styles = {(canvas.colour(j), canvas.dashes(j)) for j in range(28)}
    assert len(styles) == 28


def test_pairs_and_principal_axes():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(2, 7, 7))
    matrices = jnp.asarray(root @ root.transpose(0, 2, 1) + np.eye(7))
    mean = jnp.asarray(3 * rng.normal(size=(2, 7)))
    full = laws.Full
    three = mixture_of(laws.Gaussian(mean[:, :3], full.from_matrices(matrices[:, :3, :3])))
    frame = pd.DataFrame(draws(three), columns=["width", "length", "depth"])
    axes = om.plot.mixture(three, frame)
    assert axes.shape == (3, 3)
    assert [panel.get_xlabel() for panel in axes[2]] == ["width", "length", "depth"]
    assert [panel.get_ylabel() for panel in axes[:, 0]] == ["", "length", "depth"]
    assert not axes[0, 1].axison
    for row, column in ((1, 0), (2, 0), (2, 1)):
        which = np.array([column, row])
        for j, patch in enumerate(axes[row, column].patches):
            check_ellipse(patch, mean[j, which], matrices[j][np.ix_(which, which)])
    whole = mixture_of(laws.Gaussian(mean, full.from_matrices(matrices)))
    x = draws(whole)
    panel = om.plot.mixture(whole, x)
    # by the singular value decomposition of the standardised rows
    deviation = x.std(axis=0)
    _, values, axis = np.linalg.svd((x - x.mean(axis=0)) / deviation, full_matrices=False)
    share = values[:2] ** 2 / (values**2).sum()
    assert f"({share[0]:.0%})" in panel.get_xlabel()
    towards = axis[:2].T / deviation[:, None]
    towards *= np.sign(towards[np.abs(towards).argmax(axis=0), [0, 1]])
    at = np.asarray(panel.collections[0].get_offsets())
    np.testing.assert_allclose(at, (x - x.mean(axis=0)) @ towards, atol=1e-9)
    centre = (np.asarray(mean[1]) - x.mean(axis=0)) @ towards
    check_ellipse(panel.patches[1], centre, towards.T @ matrices[1] @ towards)


def test_regions_of_laws_without_ellipses():
    """Two independent exponential laws: the region is below a line, by the gamma law of a sum."""
    rate = np.array([[0.5, 2.0]])
    model = mixture_of(laws.Exponential(jnp.asarray(rate)))
    axes = om.plot.mixture(model, draws(model, 2000))
    (line,) = curves(axes)
    inside = (line > 0.02).all(axis=1)  # the grid cuts off at 0
    total = line[inside] @ rate[0]
    np.testing.assert_allclose(total, stats.gamma(2).ppf(HELD), rtol=0.03)


def test_density_contours_hold_what_they_say():
    matrix = np.array([[1.0, 0.6], [0.6, 2.0]])
    model = mixture_of(
        laws.Gaussian(jnp.zeros((1, 2)), laws.Full.from_matrices(jnp.asarray(matrix)[None]))
    )
    axes = om.plot.density(model, probability=(0.9, 0.5))
    found = axes.collections[0]
    assert len(found.get_paths()) == 2
    for line, held in zip(found.get_paths(), (0.9, 0.5), strict=True):
        at = line.vertices
        distance = np.einsum("ni,ij,nj->n", at, np.linalg.inv(matrix), at)
        assert np.ptp(distance) < 0.03 * distance.mean()
        assert stats.chi2(2).cdf(distance.mean()) == pytest.approx(held, abs=0.008)
    # with the rows, which are points behind
    x = draws(model, 30)
    np.testing.assert_array_equal(om.plot.density(model, x).collections[0].get_offsets(), x)


def test_one_column_is_a_histogram_under_densities():
    mean, deviation = np.array([0.0, 4.0]), np.array([1.0, 0.5])
    law = laws.Gaussian(jnp.asarray(mean[:, None]), laws.Spherical(jnp.asarray(deviation)))
    model = mixture_of(law, [0.2, 0.8])
    x = draws(model, 60)
    weight = np.linspace(0, 1, 60)
    x[0] = 1e6  # of weight 0
    axes = om.plot.mixture(model, x, sample_weight=weight, columns=["speed"])
    first, second, whole = (line.get_xydata() for line in axes.get_lines())
    parts = [0.2, 0.8] * stats.norm(mean, deviation).pdf(first[:, :1])
    np.testing.assert_allclose(first[:, 1], parts[:, 0], atol=1e-10)
    np.testing.assert_allclose(second[:, 1], parts[:, 1], atol=1e-10)
    np.testing.assert_allclose(whole[:, 1], parts.sum(axis=1), atol=1e-10)
    bars = np.array([[bar.get_x(), bar.get_width(), bar.get_height()] for bar in axes.patches])
    assert bars[:, 1] @ bars[:, 2] == pytest.approx(1)
    edges = np.append(bars[:, 0], bars[-1, 0] + bars[-1, 1])
    heights = np.histogram(x[1:, 0], edges, weights=weight[1:], density=True)[0]
    np.testing.assert_allclose(bars[:, 2], heights, rtol=1e-6)
    assert axes.get_xlabel() == "speed"
    assert len(om.plot.density(model).patches) == 0  # no rows, no histogram


def heights(container):
    return np.array([bar.get_height() for bar in container])


def test_counts_are_bars():
    rate = np.array([[1.0, 6.0], [4.0, 0.5]])
    model = mixture_of(laws.Poisson(jnp.asarray(rate)), [0.4, 0.6])
    x = draws(model, 80)
    panels = om.plot.mixture(model, x, columns=("visits", "calls"))
    assert panels.shape == (1, 2)
    for a, axes in enumerate(panels.flat):
        first, second = axes.containers
        grid = np.array([bar.get_x() + bar.get_width() / 2 for bar in first])
        pmf = [0.4, 0.6] * stats.poisson(rate[:, a]).pmf(grid[:, None])
        np.testing.assert_allclose(heights(first), pmf[:, 0], atol=1e-10)
        np.testing.assert_allclose(heights(second), pmf[:, 1], atol=1e-10)
        np.testing.assert_allclose([bar.get_y() for bar in second], pmf[:, 0], atol=1e-10)
        seen = np.asarray(axes.collections[0].get_offsets())
        np.testing.assert_allclose(seen[:, 1], [(x[:, a] == v).mean() for v in grid], atol=1e-12)
    # with exposures, averaged over the rows
    exposure = np.linspace(0.5, 3, 80)
    rows = {"x": x, "exposure": exposure}
    first = om.plot.mixture(model, rows)[0, 0].containers[0]
    grid = np.array([[bar.get_x() + bar.get_width() / 2] for bar in first])
    pmf = 0.4 * stats.poisson(exposure * rate[0, 0]).pmf(grid).mean(axis=1)
    np.testing.assert_allclose(heights(first), pmf, atol=1e-10)


def test_categories_are_bars():
    law = laws.Categorical.examples()["ragged"]
    model = mixture_of(law, [0.2, 0.3, 0.5])
    x = draws(model, 90).astype(float)
    x[4, 1] = np.nan
    weight = np.where(np.arange(90) < 30, 0.0, 1.0)
    panels = om.plot.mixture(model, x, sample_weight=weight)
    assert panels.shape == (1, 2)
    for item, n_levels in enumerate((2, 3)):
        axes = panels[0, item]
        found = np.stack([heights(bars) for bars in axes.containers])
        np.testing.assert_allclose(found, np.asarray(law.probability)[:, item, :n_levels])
        seen = [segment[0, 1] for segment in axes.collections[0].get_segments()]
        share = np.bincount(x[30:, item].astype(int), minlength=n_levels) / 60
        np.testing.assert_allclose(seen, share, atol=1e-12)
    counts = laws.Multinomial(jnp.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))
    rows = np.array([[1.0, 2.0, 7.0], [6.0, 3.0, 1.0]])
    axes = om.plot.mixture(mixture_of(counts), rows, columns="abc")
    found = np.stack([heights(bars) for bars in axes.containers])
    np.testing.assert_allclose(found, counts.probability)
    seen = [segment[0, 1] for segment in axes.collections[0].get_segments()]
    np.testing.assert_allclose(seen, [7 / 20, 5 / 20, 8 / 20])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]


def test_angles_are_a_circle():
    law = laws.VonMises(jnp.array([[1.0], [-2.0]]), jnp.array([[4.0], [0.5]]))
    model = mixture_of(law, [0.25, 0.75])
    x = draws(model, 40)
    axes = om.plot.mixture(model, x)
    _, first, second, whole = (line.get_xydata() for line in axes.get_lines())
    angle = np.arctan2(first[:, 1], first[:, 0])
    parts = [0.25, 0.75] * stats.vonmises([4.0, 0.5], [1.0, -2.0]).pdf(angle[:, None])
    outwards = np.hypot(*first.T) - 1, np.hypot(*second.T) - 1, np.hypot(*whole.T) - 1
    unit = outwards[0][0] / parts[0, 0]
    wanted = unit * np.column_stack([parts, parts.sum(axis=1)])
    np.testing.assert_allclose(np.column_stack(outwards), wanted, atol=1e-9)
    at = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(np.exp(1j * x[:, 0]), at @ [1, 1j] / np.hypot(*at.T), atol=1e-9)


def test_directions_are_a_map_of_equal_areas():
    kappa = 6.0
    law = laws.VonMisesFisher(jnp.array([[1.0, 0.0, 0.0]]), jnp.array([kappa]))
    model = mixture_of(law)
    axes = om.plot.mixture(model, draws(model, 20))
    (line,) = curves(axes)
    # the inverse of Hammer's map, Snyder (1987), for a map sqrt(2) times as large
    x, y = np.sqrt(2) * line.T
    z = np.sqrt(1 - (x / 4) ** 2 - (y / 2) ** 2)
    latitude, longitude = np.arcsin(z * y), 2 * np.arctan2(z * x, 2 * (2 * z**2 - 1))
    cosine = np.cos(latitude) * np.cos(longitude)
    # P(cosine > c) of a von Mises-Fisher law in space
    held = (1 - np.exp(-kappa * (1 - cosine))) / (1 - np.exp(-2 * kappa))
    np.testing.assert_allclose(held, HELD, atol=0.01)
    at, step = np.array([1.2, -0.7]), 1e-5  # longitude, latitude
    across = spheres.hammer(*(at + step * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])).T)
    jacobian = np.stack([across[0] - across[1], across[2] - across[3]]) / (2 * step)
    assert abs(np.linalg.det(jacobian)) == pytest.approx(np.cos(at[1]) / 2, rel=1e-6)


def test_three_shares_are_a_triangle():
    alpha = np.array([[8.0, 3.0, 4.0]])
    model = mixture_of(laws.Dirichlet(jnp.asarray(alpha)))
    x = draws(model, 30)
    axes = om.plot.mixture(model, x, columns=("sand", "silt", "clay"))
    at = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(at, x @ [[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]], atol=1e-12)
    (line,) = curves(axes)
    many = np.random.default_rng(0).dirichlet(alpha[0], 20000) @ spheres.CORNERS
    inside = mpl.path.Path(line).contains_points(many).mean()
    assert inside == pytest.approx(HELD, abs=0.015)
    assert {text.get_text() for text in axes.texts} >= {"sand", "silt", "clay"}


def test_regressions_and_products():
    coefficients = jnp.array([[1.0, 2.0], [0.0, -1.0]])
    law = laws.LinearRegression(coefficients, jnp.zeros(0), jnp.array([0.1, 0.3]))
    model = mixture_of(law)
    rng = np.random.default_rng(0)
    table = {"dose": rng.uniform(0, 2, 50), "effect": rng.normal(size=50)}
    rows = om.rows.regression("effect ~ dose", table)
    axes = om.plot.mixture(model, rows)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("dose", "effect")
    for line, (intercept, slope) in zip(axes.get_lines(), np.asarray(coefficients), strict=True):
        x, y = line.get_xydata().T
        np.testing.assert_allclose(y, intercept + slope * x, atol=1e-10)
    parts = {"plain": laws.Poisson(jnp.array([[1.0], [5.0]])), "sized": laws.Gaussian.examples()}
    parts["sized"] = parts["sized"]["full"].take(jnp.arange(2))
    product = mixture_of(laws.Product(parts))
    panels = om.plot.mixture(product, draws(product, 40))
    assert panels.shape == (1, 2)
    assert panels[0, 0].get_xlabel() == "plain"
    assert panels[0, 1].get_ylabel() == "sized 1"
    assert len(panels[0, 1].patches) == 2


LOOKS = {
    "units": lambda: laws.Repeated.examples()["pairs"],
    "noise": lambda: laws.Noisy.examples()["full"],
    "outliers": lambda: laws.OneOf.examples()["noise"],
    "gated": lambda: laws.Gated(
        laws.Gaussian(jnp.array([[0.0], [5.0]]), laws.Spherical(jnp.ones(2))),
        laws.gated.Gate(jnp.array([[0.1, 1.0]])),
        jnp.array([0.6, 0.4]),
    ),
    "zeros": lambda: laws.ZeroInflated.examples()["poisson"],
    "frozen": lambda: laws.Frozen(laws.Gaussian.examples()["tied"], "mean"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_wrappers_are_looked_into(name):
    components = LOOKS[name]()
    if name == "gated":
        rows = {"rows": np.array([[0.0], [6.0]]), "gate": np.array([[1.0], [2.0]])}
        first = om.plot.mixture(mixture_of(components), rows).get_lines()[0].get_ydata()
        assert first.max() == pytest.approx(0.6 * stats.norm.pdf(0), rel=1e-3)  # of `sizes`
        return
    axes = om.plot.mixture(mixture_of(components), jax.tree.map(np.asarray, rows_for(components)))
    outlines = {"noise": 3, "outliers": 2, "frozen": 3}
    if name in outlines:
        assert len(axes.patches) == outlines[name]
        return
    panels = np.atleast_1d(axes).ravel()
    assert len(panels) == (2 if name == "units" else 1)
    assert all(panel.has_data() for panel in panels)


@pytest.mark.slow
@pytest.mark.parametrize("components", EXAMPLES)
def test_every_family_has_a_picture(components):
    model = mixture_of(components)
    rows = jax.tree.map(np.asarray, rows_for(components))
    for axes in (om.plot.mixture(model, rows), om.plot.density(model, rows)):
        panels = np.atleast_1d(axes).ravel()
        assert panels[0].has_data()
        panels[0].figure.canvas.draw()
    assert om.plot.uncertainty(model, rows).has_data()


def test_supports_are_found_by_the_contract():
    of = {
        "real": (laws.Gaussian, laws.StudentT, laws.Gamma, laws.Beta, laws.FromLogProb),
        "counts": (laws.Poisson, laws.Binomial, laws.Categorical, laws.ZeroInflated),
        "angles": (laws.VonMises,),
        "directions": (laws.VonMisesFisher,),
        "shares": (laws.Dirichlet,),
    }
    for kind, families in of.items():
        for family in families:
            one = next(iter(family.examples().values()))
            assert supports.support(one, one.n_features or 1) == kind
            if one.separable:
                assert supports.support(one.marginal([1]), 1) == kind
    far = laws.Gaussian(jnp.linspace(40, 80, 5)[:, None], laws.Spherical(jnp.full(5, 0.3)))
    assert supports.support(far, 1) == "real"  # whose density is 0 at all probes
    assert supports.support(laws.Product.examples()["mixed"], 0) == "other"


# --- plans, uncertainty ---


def test_uncertainty(pair):
    x = draws(pair, 50)
    unsure = 1 - np.asarray(pair.responsibilities(x)).max(axis=1)
    order = np.argsort(unsure)
    axes = om.plot.uncertainty(pair, x)
    points = axes.collections[0]
    np.testing.assert_allclose(points.get_array(), unsure[order])
    np.testing.assert_array_equal(points.get_offsets(), x[order])
    assert (np.diff(points.get_sizes()) >= 0).all()
    counts = mixture_of(laws.Poisson(jnp.array([[1.0], [4.0]])))
    rows, weight = draws(counts, 40), np.linspace(0.5, 1, 40)
    at = np.asarray(
        om.plot.uncertainty(counts, rows, sample_weight=weight).collections[1].get_offsets()
    )
    unsure = 1 - np.asarray(counts.responsibilities(rows)).max(axis=1)
    order = np.argsort(unsure)
    np.testing.assert_allclose(at[:, 1], unsure[order])
    np.testing.assert_allclose(at[:, 0], np.cumsum(weight[order]) / weight.sum())


MASS = np.array([[0.3, 0.1], [0.0, 0.2], [0.25, 0.15], [0.0, 0.0]])


def ribbons(axes):
    found = [patch for patch in axes.patches if isinstance(patch, mpl.patches.PathPatch)]
    return [patch.get_path().vertices for patch in found]


def test_flows_are_as_wide_as_the_mass_they_carry():
    axes = om.plot.flows(MASS, groups=["b", "a", "a", "c"], names=("left", "right"))
    found = ribbons(axes)
    # by groups in their order, to each component: a, then b; nothing flows from c
    wanted = [0.25, 0.35, 0.3, 0.1]
    np.testing.assert_allclose([v[7, 1] - v[0, 1] for v in found], wanted, atol=1e-12)
    np.testing.assert_allclose([v[4, 1] - v[3, 1] for v in found], wanted, atol=1e-12)
    for first, second in ((0, 2), (1, 3)):  # into one component: one after the other
        assert found[second][3, 1] == pytest.approx(found[first][4, 1])
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["a", "b", "left: 55%", "right: 45%"]
    plan = np.random.default_rng(0).dirichlet([0.3] * 3, 200) / 200
    found = ribbons(om.plot.flows(plan))
    assert sum(v[7, 1] - v[0, 1] for v in found) == pytest.approx(1)


def test_heat_map_of_a_plan(pair):
    axes = om.plot.heat_map(MASS)
    shares = np.array([[0.75, 0.25], [0.625, 0.375], [0.0, 1.0]])
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    plan = om.plan(pair, draws(pair, 30))
    shown = np.asarray(om.plot.heat_map(plan).images[0].get_array())
    np.testing.assert_allclose(
        np.sort(shown, axis=0), np.sort(30 * np.asarray(plan.matrix), axis=0), atol=1e-12
    )
    many = np.random.default_rng(0).random((2500, 2))
    assert om.plot.heat_map(many).images[0].get_array().shape == (1000, 2)


# --- runs, paths, choices, influence ---


def test_history_names_each_run(solution):
    axes = om.plot.history({"EM": solution})
    steps = int(solution.n_steps)
    assert axes.get_legend().get_texts()[0].get_text() == f"EM, {steps} steps"


def test_convergence_shows_what_is_left(solution):
    axes = om.plot.convergence(solution)
    steps = int(solution.n_steps)
    value, left = float(solution.value), float(solution.certificate.aitken_gap)
    step, above = axes.get_lines()[0].get_xydata().T
    np.testing.assert_array_equal(step, np.arange(steps + 1))
    recorded = np.asarray(solution.history)[: steps + 1]
    np.testing.assert_allclose(above, recorded - value + left, atol=1e-12)
    assert above[-1] == pytest.approx(left)
    ends = np.unique(axes.patches[0].get_corners()[:, 1])
    np.testing.assert_allclose(ends, sorted([left, float(solution.certificate.weights_gap)]))


def test_paths(pair):
    x = draws(pair, 40)
    couplings = [om.couplings.SemiRelaxed(), om.couplings.Penalized(1.0), om.couplings.Balanced()]
    plans = [om.plan(pair, x, coupling=coupling) for coupling in couplings]
    # in any order
    axes = om.plot.path([np.inf, 0, 1], [plans[2], plans[0], plans[1]])
    sizes = np.stack([np.asarray(plan.column_marginal) for plan in plans])
    for j, line in enumerate(axes.get_lines()):
        np.testing.assert_allclose(line.get_ydata(), sizes[:, j])
        assert (np.diff(line.get_xdata()) > 0).all()
    assert [tick.get_text() for tick in axes.get_xticklabels()][-2:] == ["0", "∞"]
    axes = om.plot.path([0, 1, np.inf], plans, of="entropy", parameter="epsilon")
    entropy = [stats.entropy(np.asarray(plan.matrix), axis=1).mean() for plan in plans]
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), entropy)
    assert axes.get_xlabel() == "epsilon"
    axes = om.plot.path([1.0, 2.0], [pair, pair], of="means", column=1)
    assert [line.get_ydata().tolist() for line in axes.get_lines()] == [[0, 0], [1, 1]]
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [1, 2])
    axes = om.plot.path([0, 1], plans[:2], of="value")
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [float(p.value) for p in plans[:2]])


def test_influence(pair):
    x = draws(pair, 30)
    values = np.linspace(-2, 1, 30)
    points = om.plot.influence(values, x, columns=("a", "b")).collections[0]
    order = np.argsort(np.abs(values))
    np.testing.assert_array_equal(np.sort(points.get_array()), np.sort(values[order]))
    np.testing.assert_array_equal(points.get_offsets(), x[order])
    axes = om.plot.influence(values, label="change")
    np.testing.assert_array_equal(axes.collections[1].get_offsets()[:, 1], values)
    assert axes.get_ylabel() == "change"
    assert axes.texts[0].get_text() == "row 0"
    arrows = om.plot.influence(x, x).collections[1]
    np.testing.assert_allclose(arrows.U, x[:, 0] * x[:, 0].std())
    assert om.plot.influence(values, x[:, 0]).get_xlabel() == "column 0"


# --- refusals ---

REFUSED = {
    "rows have 3": lambda m, x: om.plot.mixture(m, np.column_stack([x, x[:, 0]])),
    "masked": lambda m, x: om.plot.mixture(m, np.ma.masked_array(x, x > 1)),
    "deviations": lambda m, x: om.plot.mixture(m, x, deviations=0),
    "1 names": lambda m, x: om.plot.mixture(m, x, columns=["one"]),
    "20 rows": lambda m, x: om.plot.mixture(m, x, sample_weight=np.ones(3)),
    "finite and >= 0, and not": lambda m, x: om.plot.mixture(m, x, sample_weight=-np.ones(20)),
    r"matrix \[20, 2\]": lambda m, x: om.plot.mixture(m, x, plan=np.ones((20, 3))),
    "1 x 1 panels": lambda m, x: om.plot.mixture(m, x, axes=[None, None]),
    r"\(0, 1\)": lambda m, x: om.plot.density(m, x, probability=(1.0,)),
    r"rows have 1 ": lambda m, x: om.plot.uncertainty(m, x[:, :1]),
    "entries": lambda m, x: om.plot.flows(np.full((2, 2), np.nan)),
    r"\[n, k\]": lambda m, x: om.plot.heat_map(np.ones(3)),
    "groups=": lambda m, x: om.plot.flows(np.ones((3, 2)), groups=["a"]),
    "names=": lambda m, x: om.plot.flows(np.ones((3, 2)), names=["a"]),
    "2 values for 1": lambda m, x: om.plot.path([0, 1], [m]),
    "of= must": lambda m, x: om.plot.path([0], [m], of="nothing"),
    "no entropy": lambda m, x: om.plot.path([0], [m], of="entropy"),
    ">= 0 or inf": lambda m, x: om.plot.path([-1], [m]),
    "shape": lambda m, x: om.plot.influence(np.ones((20, 3)), x),
    "finite": lambda m, x: om.plot.influence(np.full(20, np.nan), x),
    "20 values for 3": lambda m, x: om.plot.influence(np.ones(20), x[:3]),
    "arrows": lambda m, x: om.plot.influence(np.ones((20, 2))),
    "no runs": lambda m, x: om.plot.history({}),
}


@pytest.mark.parametrize("match", REFUSED)
def test_what_is_refused_opens_no_figure(pair, match):
    with pytest.raises(ValueError, match=match):
        REFUSED[match](pair, draws(pair, 20))
    assert plt.get_fignums() == []


def test_failed_candidates_and_batches_are_refused(solution):
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), solution)
    with pytest.raises(ValueError, match="batch"):
        om.plot.convergence(batch)
    with pytest.raises(ValueError, match="batches"):
        om.plot.path([1.0], [batch])
    with pytest.raises(ValueError, match="all candidates failed"):
        om.plot.criterion(om.Choice((), "bic"))
    assert plt.get_fignums() == []


def test_pictures_are_loaded_when_asked_for():
    code = """
import sys, otmix_jax as om
assert "matplotlib" not in sys.modules
if sys.argv[1] == "there":
    assert om.plot.mixture and "matplotlib" in sys.modules
else:
    sys.modules["matplotlib"] = None
    try:
        om.plot
    except ModuleNotFoundError as error:
        assert 'pip install "otmix_jax[plot]"' in str(error), error
    else:
        raise SystemExit("no error")
try:
    om.plots
except AttributeError as error:
    assert "plots" in str(error)
"""
    for argument in ("there", "missing"):
        run = [sys.executable, "-W", "ignore", "-c", code, argument]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
