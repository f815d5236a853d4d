"""Every kernel and execution equals the reference kernel over all rows as one tile."""

import dataclasses
import functools
import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

import otmix_jax
import otmix_jax as om
from otmix_jax.engine import (
    Columns,
    Dense,
    Engine,
    Entrywise,
    Guarded,
    Linear,
    Reference,
    Rows,
    Tiled,
    choose,
    dual,
    read,
    rows_of,
    sweep,
    value,
)

KERNELS = {"reference": Reference, "linear": Linear, "guarded": Guarded}
ENGINES = {
    "reference-tiled": Engine(Reference, Tiled(16)),
    "linear-dense": Engine(Linear, Dense()),
    "guarded-dense": Engine(Guarded, Dense()),
    "guarded-tiled": Engine(Guarded, Tiled(16)),
}
EXAMPLES = om.families.Gaussian.examples()
TOLERANCE = {"float64": 1e-12, "float32": 5e-6}


@pytest.fixture(params=ENGINES.values(), ids=ENGINES.keys())
def engine(request):
    return request.param


CASES = [
    pytest.param(ENGINES[name], n, id=f"{name}-{n}")
    for name, n in [
        ("reference-tiled", 37),
        ("linear-dense", 37),
        ("guarded-dense", 1),
        ("guarded-tiled", 15),
        ("guarded-tiled", 37),
    ]
]


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return request.param


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def drawn(components, n, dtype, absent=True):
    x = components.sample(jax.random.key(3), jnp.arange(n) % components.n_components)
    weight = jax.random.uniform(jax.random.key(4), (n,)) + 0.1
    if absent and n > 2:
        weight = weight.at[1::3].set(0)
        x = x.at[1].set(jnp.nan)
    return rows_of(*cast((x, weight / weight.sum()), dtype))


def columns_of(components, dtype, coupled=True):
    k = components.n_components
    g = jnp.linspace(-0.5, 0.5, k) if coupled else None
    return cast(Columns(jnp.log(jnp.arange(1.0, k + 1) / (k * (k + 1) / 2)), g), dtype)


def lanes_of(components):
    frames = om.families.Affine(jnp.ones((3, 2)), jnp.array([0.5, 1.0, 2.0]))
    return jax.vmap(components.out_of)(frames)


def assert_close(actual, expected, rtol):
    """Relative to the largest number of each leaf: a sum may cancel in some entries."""

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(1e-30, np.abs(b).max(initial=0)))

    jax.tree.map(close, actual, expected)


def everything(engine, rows, columns, components):
    swept = sweep(engine, rows, columns, components)
    kernel = engine.kernel.of(columns, components)
    return {
        "mass": swept.mass,
        "value": swept.value,
        "parameters": components.maximize(swept.statistics, swept.mass, ridge(rows.x.dtype)),
        "dual": dual(engine, rows, columns, components),
        "total": value(engine, rows, columns, components),
        "potential": engine.execution.map(lambda x, _: kernel.potential(x), rows),
        "plan": engine.execution.map(lambda x, a: a[:, None] * kernel.rows(x)[1], rows),
    }


def ridge(dtype):
    """Regular for one row too."""
    return cast(om.priors.Prior(om.priors.Ridge(jnp.asarray(0.1), jnp.ones(2))), dtype)


@pytest.mark.parametrize(("engine", "n"), CASES)
def test_equals_the_reference(structure, engine, n, dtype):
    components = cast(EXAMPLES[structure], dtype)
    rows, columns = drawn(components, n, dtype), columns_of(components, dtype)
    actual = jax.jit(functools.partial(everything, engine))(rows, columns, components)
    exact = cast((rows, columns, components), "float64")
    expected = everything(Engine(), *exact)
    chex.assert_trees_all_equal_dtypes(actual["mass"], rows.x)
    assert_close(actual, expected, TOLERANCE[dtype])


def test_equals_the_reference_at_any_entropy(structure):
    components = EXAMPLES[structure]
    rows, columns = drawn(components, 37, "float64"), columns_of(components, "float64")

    @functools.partial(jax.jit, static_argnums=0)
    def mass_and_values(engine, epsilon):
        tilted = dataclasses.replace(columns, epsilon=epsilon)
        swept = sweep(engine, rows, tilted, components)
        return swept.mass, swept.value, value(engine, rows, tilted, components)

    for epsilon in (0.0, 0.1, 3.0):
        actual = mass_and_values(ENGINES["guarded-tiled"], epsilon)
        assert_close(actual, mass_and_values(Engine(), epsilon), 1e-12)


@pytest.mark.parametrize("engine", [ENGINES["linear-dense"], ENGINES["guarded-tiled"]])
def test_equals_the_reference_under_vmap(structure, engine):
    components = EXAMPLES[structure]
    rows, columns = drawn(components, 37, "float64"), columns_of(components, "float64")
    scaled = lanes_of(components)
    run = functools.partial(everything, engine, rows, columns)
    actual = jax.jit(jax.vmap(run))(scaled)
    reference = jax.jit(functools.partial(everything, Engine(), rows, columns))
    lanes = [jax.tree.map(operator.itemgetter(i), scaled) for i in range(3)]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(reference, lanes))
    assert_close(actual, expected, 1e-12)


def test_lanes_side_by_side_equal_the_reference(structure, dtype):
    """Its own rule for `vmap`, and without `vmap`; also with absent rows and components."""
    components = cast(EXAMPLES[structure], dtype)
    lanes = cast(lanes_of(EXAMPLES[structure]), dtype)
    rows = drawn(components, 37, dtype)
    log_weights = jnp.log(jnp.array([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0], [0.0, 0.0, 0.0]]))
    columns = cast(Columns(log_weights), dtype)

    def parameters(kernel, columns, components):
        swept = sweep(Engine(kernel), rows, columns, components)
        new = components.maximize(swept.statistics, swept.mass, ridge(dtype))
        return swept.value, swept.mass, new

    actual = jax.jit(jax.vmap(functools.partial(parameters, Entrywise)))(columns, lanes)
    expected = jax.jit(jax.vmap(functools.partial(parameters, Reference)))(columns, lanes)
    assert np.isinf(expected[0][2])
    assert np.isinf(actual[0][2])
    present = jax.tree.map(lambda leaf: leaf[:2], (actual, expected))
    assert_close(*present, TOLERANCE[dtype])
    first = jax.tree.map(lambda leaf: leaf[0], (columns, lanes))
    alone = jax.jit(functools.partial(parameters, Entrywise))(*first)
    assert_close(alone, jax.tree.map(lambda leaf: leaf[0], expected), TOLERANCE[dtype])


def test_a_lane_with_rows_out_of_reach_disturbs_no_other():
    """Its value is infinite, which ends its run; its plan still has the rows' mass."""
    components = EXAMPLES["full"]
    x = jnp.stack([jnp.zeros((2, 2)), jnp.full((2, 2), 1e200)])
    columns = Columns(jnp.log(jnp.array([0.2, 0.3, 0.5])))

    def value_and_mass(kernel, x):
        swept = kernel.of(columns, components).sweep(x, jnp.array([0.5, 0.5]))
        return swept.value, swept.mass

    value, mass = jax.vmap(functools.partial(value_and_mass, Entrywise))(x)
    expected = jax.vmap(functools.partial(value_and_mass, Reference))(x)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(mass[0], expected[1][0], rtol=1e-12)
    np.testing.assert_allclose(mass[1].sum(), 1, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [ENGINES["reference-tiled"], ENGINES["guarded-tiled"]])
def test_gradients_equal_the_reference(structure, engine):
    components = EXAMPLES[structure]
    rows = drawn(components, 37, "float64", absent=False)
    columns = columns_of(components, "float64")
    columns = dataclasses.replace(columns, epsilon=jnp.asarray(1.3))

    def of(engine):
        def total(x, weight, columns, components):
            return value(engine, Rows(x, weight), columns, components)

        arguments = (rows.x, rows.weight, columns, components)
        return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3)))(*arguments)

    assert_close(of(engine), of(Engine()), 1e-11)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("structure", "kernel"),
    [("full", Guarded), ("tied", Linear), ("diagonal", Reference), ("spherical", Linear)],
)
def test_derivatives_to_second_order(structure, kernel):
    """Forward and reverse mode, against finite differences of lower derivatives."""
    components = EXAMPLES[structure]
    rows = drawn(components, 20, "float64", absent=False)
    columns = columns_of(components, "float64")
    flat, unravel = ravel_pytree((rows.x, rows.weight, columns, components))

    def total(z):
        x, weight, columns, components = unravel(z)
        return value(Engine(kernel, Tiled(8)), Rows(x, weight), columns, components)

    check_grads(jax.jit(total), (flat,), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("structure", "kernel"), [("full", Guarded), ("tied", Linear)])
def test_a_sweep_is_differentiable(structure, kernel):
    components = EXAMPLES[structure]
    rows = drawn(components, 20, "float64")
    columns = columns_of(components, "float64")

    def moved(engine):
        def mean(components):
            swept = sweep(engine, rows, columns, components)
            return jnp.sum(components.maximize(swept.statistics, swept.mass).cost(rows.x[:1]))

        return jax.jit(jax.grad(mean))(components)

    assert_close(moved(Engine(kernel, Tiled(8))), moved(Engine()), 1e-10)


@pytest.mark.parametrize("n", [512, 20_000])
def test_entrywise_sums_keep_their_digits_in_float32(n):
    """A loop over 20000 rows, one after the other, is off by 4e-5."""
    x = np.random.default_rng(0).normal(size=(n, 2))
    weight = np.full(n, 1 / n)

    def mass(dtype):
        ready = Entrywise.of(*cast((Columns(jnp.zeros(3)), EXAMPLES["full"]), dtype))
        return jax.jit(ready.sweep)(jnp.asarray(x, dtype), jnp.asarray(weight, dtype)).mass

    np.testing.assert_allclose(mass(jnp.float32), mass(jnp.float64), rtol=0, atol=1e-6)


def test_an_entrywise_sweep_writes_no_products():
    """Of 3 components' 18 moments none is written out row by row before it is summed."""

    def sweep(x, weight):
        return Entrywise.of(Columns(jnp.zeros(3)), EXAMPLES["full"]).sweep(x, weight)

    lanes, n = 64, 200
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float64) for shape in ((lanes, n, 2), (lanes, n))]
    held = jax.jit(jax.vmap(sweep)).lower(*shapes).compile().memory_analysis()
    assert held.temp_size_in_bytes < 8 * lanes * n * 8


def test_an_entrywise_sweep_is_differentiable(structure):
    """In components, rows and weights, that of an absent row included."""
    components, columns = EXAMPLES[structure], columns_of(EXAMPLES[structure], "float64", False)
    rows = drawn(components, 20, "float64", absent=False)
    weight = rows.weight.at[3].set(0)
    direction = jnp.cos(jnp.arange(3.0))

    def moved(kernel):
        def mean(components, x, weight):
            swept = kernel.of(columns, components).sweep(x, weight)
            new = components.maximize(swept.statistics, swept.mass)
            return swept.value + swept.mass @ direction + jnp.sum(new.cost(rows.x[:2]))

        return jax.jit(jax.value_and_grad(mean, (0, 1, 2)))(components, rows.x, weight)

    assert_close(moved(Entrywise), moved(Reference), 1e-10)


def test_an_unreadable_row_is_nan_everywhere():
    for kernel in (Entrywise, Reference):
        ready = kernel.of(Columns(jnp.log(jnp.array([0.2, 0.3, 0.5]))), EXAMPLES["full"])
        potential = ready.potential(jnp.array([[0.0, jnp.nan], [1e300, 0.0], [0.0, 0.0]]))
        assert np.isnan(potential[0])
        assert potential[1] == jnp.inf
        assert np.isfinite(potential[2])


def test_rows_are_read_in_standard_coordinates():
    x = jnp.array([[1.0, 5.0], [3.0, 9.0], [jnp.nan, 1.0]])
    frame = om.families.Affine(jnp.array([1.0, 1.0]), jnp.asarray(2.0))
    rows = rows_of(x, jnp.array([0.5, 0.5, 0.0]), frame)
    np.testing.assert_array_equal(read(rows, rows.x, rows.weight)[:2], [[0, 2], [1, 4]])
    assert np.isfinite(read(rows, rows.x, rows.weight)).all()


def test_a_problem_in_standard_coordinates(faithful, structure):
    """(x - origin) / unit read tile by tile is the same problem as rows made so."""
    origin, unit = faithful.mean(0), 4.0
    made = om.Problem((faithful - origin) / unit)
    framed = om.Problem(faithful, frame=om.families.Affine(origin, np.asarray(unit)))
    key = jax.random.key(0)
    start = om.initializers.kmeans_plus_plus(key, made, n_components=2, covariance=structure)
    engine = Engine(Guarded, Tiled(64))
    a, b = om.solve(made, start), om.solve(framed, start, engine=engine)
    np.testing.assert_allclose(a.value, b.value, rtol=1e-12)
    np.testing.assert_allclose(
        a.mixture.components.mean, b.mixture.components.mean, rtol=1e-6, atol=1e-9
    )


def test_many_small_tiles_lose_no_digits_in_float32():
    """The error of the sum over 4000 tiles stays at the rounding of one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32_000, 1)).astype(np.float32)
    rows = Rows(jnp.asarray(x), jnp.full(len(x), np.float32(0.1)))
    total = Tiled(8).reduce(lambda x, a: jnp.sum(a[:, None] * x**2), rows)
    expected = np.sum(np.float32(0.1) * x.astype(np.float64) ** 2)
    assert abs(float(total) / expected - 1) < 2e-7


def test_an_infinite_term_stays_infinite():
    rows = Rows(jnp.ones((20, 1)).at[3].set(jnp.inf), jnp.ones(20))
    assert Tiled(8).reduce(lambda x, a: jnp.sum(x), rows) == jnp.inf


def temporaries(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("what", ["sweep", "gradient", "predict", "hessian_vector"])
def test_memory_does_not_grow_with_the_rows(what):
    components = EXAMPLES["full"]
    k, size = components.n_components, 256
    columns = columns_of(components, "float64")
    engine = Engine(Guarded, Tiled(size))

    def total(components, x, weight):
        return value(engine, Rows(x, weight), columns, components)

    def tangent(components, x, weight):
        one = jax.tree.map(jnp.ones_like, components)
        return jax.jvp(lambda c: jax.grad(total)(c, x, weight), (components,), (one,))[1]

    run = {
        "sweep": lambda c, x, a: sweep(engine, Rows(x, a), columns, c),
        "gradient": jax.grad(total),
        "predict": lambda c, x, a: jnp.sum(
            engine.execution.map(
                lambda x, _: engine.kernel.of(columns, c).rows(x)[1].argmax(1), Rows(x, a)
            )
        ),
        "hessian_vector": tangent,
    }[what]
    small, large = (
        temporaries(run, components, jnp.ones((n, 2)), jnp.ones(n)) for n in (4096, 65536)
    )
    held = 65536 * 8 if what == "predict" else 0  # one label for each row
    assert large - small < 4096 * k + 2 * held, (small, large)


def test_the_gradient_in_the_rows_holds_only_their_own_size():
    components, columns = EXAMPLES["full"], columns_of(EXAMPLES["full"], "float64")
    engine = Engine(Guarded, Tiled(256))
    gradient = jax.grad(lambda x, a: value(engine, Rows(x, a), columns, components))
    small, large = (temporaries(gradient, jnp.ones((n, 2)), jnp.ones(n)) for n in (4096, 65536))
    assert large - small < 2.2 * 8 * 3 * (65536 - 4096), (small, large)


@pytest.mark.slow
def test_a_gradient_holds_one_kernels_numbers():
    """The derivative of a choice of kernels would hold, for every row, what either needs."""
    k, d, size = 16, 6, 256
    factor = jnp.broadcast_to(jnp.eye(d), (k, d, d))
    components = om.families.Gaussian(jnp.ones((k, d)), om.families.Full(factor))
    columns = Columns(jnp.full(k, -jnp.log(k)))

    def held(kernel):
        engine = Engine(kernel, Tiled(2 * size))
        gradient = jax.grad(lambda c, x, a: value(engine, Rows(x, a), columns, c))
        return temporaries(gradient, components, jnp.ones((4096, d)), jnp.ones(4096))

    assert held(Guarded) < 1.1 * max(held(Linear), held(Reference))


def test_rows_are_written_in_place():
    """Row by row answers need no second array of their size."""
    components, columns = EXAMPLES["full"], columns_of(EXAMPLES["full"], "float64")
    engine = Engine(Guarded, Tiled(256))

    def plan(x, a):
        ready = engine.kernel.of(columns, components)
        return engine.execution.map(lambda x, _: ready.rows(x)[1], Rows(x, a))

    small, large = (temporaries(plan, jnp.ones((n, 2)), jnp.ones(n)) for n in (5000, 50_000))
    assert large - small < 0.1 * 8 * 3 * 45_000, (small, large)


def test_tiles_are_equal():
    assert [Tiled(16).tile_rows(n) for n in (0, 5, 16, 17, 37, 100)] == [0, 5, 16, 16, 16, 16]
    assert Tiled(4096).tile_rows(100_000) == 4000
    assert Tiled(4096).tile_rows(4097) == 2056


def test_the_safe_kernel_takes_over_at_the_border(structure):
    """Means ever further apart: from some distance on the guard takes the reference kernel."""
    limit = om.families.quadratic.largest_amplification("float64")
    example = EXAMPLES[structure]
    for factor, fast in ((0.5, True), (2.0, False)):
        unit = jnp.sqrt(factor * limit / _farthest(example))
        components = dataclasses.replace(example, mean=unit * example.mean)
        ready = Guarded.of(columns_of(components, "float64"), components)
        assert bool(ready.fast_is_safe) is fast
        chosen = ready.fast if fast else ready.safe
        x = components.mean
        np.testing.assert_array_equal(jax.jit(ready.rows)(x)[1], jax.jit(chosen.rows)(x)[1])


def _farthest(components):
    form = components.linear_form()
    still = dataclasses.replace(form, shift=jnp.zeros_like(form.shift))
    return form.amplification() - still.amplification()


@pytest.mark.slow
def test_a_batch_takes_the_safe_kernel_together():
    """One lane that needs it decides for all, so that a batch never pays for both kernels."""
    near, far = EXAMPLES["full"], dataclasses.replace(EXAMPLES["full"], mean=1e6 * jnp.eye(3, 2))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), near, far)
    columns = columns_of(near, "float64")
    safe = jax.vmap(lambda c: Guarded.of(columns, c).fast_is_safe)(both)
    assert not safe.any()
    text = jax.jit(jax.vmap(lambda c: Guarded.of(columns, c).potential(near.mean)))
    assert "case" in text.lower(both).as_text(), "a cond stays a cond under vmap"


def test_a_row_beyond_the_range_of_squares_is_still_right():
    components = cast(EXAMPLES["diagonal"], "float32")
    x = jnp.array([[0.0, 0.0], [3e18, -1e18]], jnp.float32)
    columns = columns_of(components, "float32", coupled=False)
    guarded = Guarded.of(columns, components).rows(x)
    safe = Reference.of(columns, components).rows(x)
    chex.assert_trees_all_equal(guarded, safe)


def test_an_absent_component_may_hold_anything(structure):
    example = EXAMPLES[structure]
    components = dataclasses.replace(example, mean=example.mean.at[2].set(jnp.nan))
    columns = Columns(jnp.log(jnp.array([0.4, 0.6, 0.0])))
    rows = drawn(example, 20, "float64")
    ready = [k.of(columns, components).rows(rows.x[:1]) for k in KERNELS.values()]
    for f, conditional in ready:
        np.testing.assert_allclose(f, ready[0][0], rtol=1e-12)
        np.testing.assert_allclose(conditional, ready[0][1], rtol=1e-12)
        assert np.isfinite(f).all()


@pytest.mark.parametrize("epsilon", [None, 0.5])
def test_no_component_present(structure, epsilon):
    """No row is in reach: infinite potentials, and no plan."""
    columns = Columns(jnp.full(3, -jnp.inf), epsilon=epsilon)
    for kernel in KERNELS.values():
        f, conditional = kernel.of(columns, EXAMPLES[structure]).rows(jnp.ones((2, 2)))
        np.testing.assert_array_equal(f, jnp.inf)
        np.testing.assert_array_equal(conditional, 0)


def test_the_choice_follows_the_shapes():
    components = EXAMPLES["full"]
    assert isinstance(choose(components, 100, jnp.float64).execution, Dense)
    large = choose(components, 10**6, jnp.float64)
    assert large.kernel is Guarded
    assert large.execution.size == 16_384
    wide = om.families.Gaussian(jnp.zeros((2, 100)), om.families.Spherical(jnp.ones(2)))
    assert choose(wide, 10**6, jnp.float64).kernel is Guarded
    full = om.families.Full(jnp.broadcast_to(jnp.eye(100), (2, 100, 100)))
    very_wide = dataclasses.replace(wide, covariance=full)
    assert choose(very_wide, 10**6, jnp.float64).kernel is Reference


@pytest.mark.parametrize(("platform", "size"), [("cpu", 4096), ("gpu", 131_072), ("tpu", 131_072)])
def test_tiles_are_larger_on_an_accelerator(monkeypatch, platform, size):
    """Bytes of a tile by platform; 16 columns and 64 components take 345 numbers per row."""
    covariance = om.families.Full(jnp.broadcast_to(jnp.eye(16), (64, 16, 16)))
    components = om.families.Gaussian(jnp.zeros((64, 16)), covariance)
    assert Linear.numbers_per_row(components) == 345
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert choose(components, 10**7, jnp.float32).execution.size == size


def test_a_second_call_is_not_traced_again(faithful):
    problem = om.Problem(faithful)
    initial = om.initializers.kmeans_plus_plus(jax.random.key(0), problem, n_components=2)
    traced = []

    @jax.jit
    def run(x):
        traced.append(1)
        return om.solve(om.Problem(x), initial).value

    run(faithful), run(faithful + 1)
    assert len(traced) == 1
    compiled = otmix_jax.model.mixtures._tile_by_tile._cache_size
    initial.log_prob(faithful)
    before = compiled()
    initial.log_prob(faithful + 1)
    assert compiled() == before


def test_explain_says_what_runs():
    """The kernel by shape and by the parameters at hand; the bound only where it decides."""
    small = om.explain(om.Problem(np.zeros((20, 2))), mixture_at([0.0, 1.0]))
    assert small.kernel == "entrywise"
    assert small.amplification is None
    assert "digits" not in str(small)
    x = np.zeros((20_000, 2))
    near, far = mixture_at([0.0, 1.0]), mixture_at([0.0, 1e9])
    assert om.explain(om.Problem(x), near).kernel == "linear"
    assert "within the limit" in str(om.explain(om.Problem(x), near))
    assert om.explain(om.Problem(x), far).kernel == "reference"
    assert "beyond the limit" in str(om.explain(om.Problem(x), far))
    tiled = om.explain(om.Problem(x), near, engine=Engine(Linear, Tiled(1000)))
    assert "20 tile(s) of 1000 rows" in str(tiled)
    assert tiled.tile_bytes == 1000 * Linear.numbers_per_row(near.components) * 8


def mixture_at(means):
    """Unit components at these points of the diagonal."""
    mean = jnp.asarray(means)[:, None] * jnp.ones(2)
    covariance = om.families.Full(jnp.broadcast_to(jnp.eye(2), (len(mean), 2, 2)))
    return om.Mixture(
        jnp.log(jnp.full(len(mean), 1 / len(mean))), om.families.Gaussian(mean, covariance)
    )
