"""What comes in: every door reads rows alike, refuses what it cannot, and says what it got."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from helpers import assert_same_mixture

import otmix_jax as om
from otmix_jax.families import Categorical, Diagonal, Frozen, Full, Gaussian, Poisson, Product

# without the suite's own type checks, as users call them
fit, fit_batch, select, plan, certificate = (
    inspect.unwrap(f) for f in (om.fit, om.fit_batch, om.select, om.plan, om.certificate)
)
FEW = {"starts": om.Starts(n_init=1), "limits": om.Limits(max_steps=400)}
"""One start, to convergence."""


@pytest.fixture(scope="module")
def mixture():
    """Two components in two columns."""
    mean = jnp.array([[0.0, 0.0], [2.0, 2.0]])
    factor = jnp.array([[[1.0, 0.0], [0.3, 0.8]], [[1.2, 0.0], [0.0, 1.0]]])
    return om.Mixture.from_weights(jnp.array([0.4, 0.6]), Gaussian(mean, Full(factor)))


@pytest.fixture(scope="module")
def solution(blobs, mixture):
    return om.solve(om.Problem(blobs), mixture, tolerance=1e-13)


def errors(mixture, x, sample_weight=None, **options):
    given = om.solve(om.Problem(np.zeros((4, 2)) + np.eye(4, 2)), mixture, max_steps=1)
    given = type(given)(**{**vars(given), "mixture": mixture})
    return om.standard_errors(given, x, sample_weight, **options).weights


DOORS = {
    "log_prob": lambda m, x: m.log_prob(x),
    "responsibilities": lambda m, x: m.responsibilities(x),
    "predict": lambda m, x: m.predict(x),
    "likelihood": om.negative_log_likelihood,
    "plan": lambda m, x: om.plan(m, x).matrix,
    "balanced": lambda m, x: om.plan(m, x, coupling=om.couplings.Balanced()).g,
    "certificate": lambda m, x: om.certificate(m, x).gap,
    "solve": lambda m, x: om.solve(om.Problem(x), m, max_steps=1).value,
    "scores": om.inference.scores,
    "covariance": lambda m, x: om.inference.parameter_covariance(m, x).matrix,
    "standard_errors": errors,
    "explain": lambda m, x: om.explain(om.Problem(x), m),
    "fit": lambda m, x: fit(x, None, key=0, starts=om.Starts(initial=m)),
}
PURE = sorted(set(DOORS) - {"explain", "fit"})


@pytest.mark.parametrize("door", DOORS)
def test_rows_of_another_width_or_kind_are_refused(blobs, mixture, door):
    wide, call = np.column_stack([blobs, blobs[:, 0]]), DOORS[door]
    for x, words in (
        (wide, "rows have 3 columns, the mixture 2"),
        (blobs[:, :1], "rows have 1 columns, the mixture 2"),
        (blobs[:, 0], r"shape \(60,\).*x\[:, None\]"),
        (blobs[None], r"two dimensions"),
        (blobs + 1j, "real numbers, not complex128"),
        (blobs.astype(str), "real numbers, not <U"),
        (blobs.astype(object), r"real numbers, not object.*astype\(float\)"),
        ({"a": blobs[:, 0]}, r"one table.*not a dict of \['a'\]"),
        (np.ma.masked_array(blobs, blobs > 4), r"masked cells, the first at row \d+, column 1"),
    ):
        with pytest.raises(ValueError, match=words):
            call(mixture, x)
    with pytest.raises(TypeError, match=r"sparse.*x\.toarray\(\)"):
        call(mixture, scipy.sparse.csr_matrix(blobs))


@pytest.mark.parametrize("door", PURE)
def test_shapes_are_checked_under_jit_too(blobs, mixture, door):
    for x, words in (
        (np.column_stack([blobs, blobs[:, 0]]), "rows have 3 columns, the mixture 2"),
        (blobs[:, :1], "rows have 1 columns, the mixture 2"),
        (blobs + 1j, "not complex128"),
    ):
        with pytest.raises(ValueError, match=words):
            jax.jit(DOORS[door])(mixture, x)


def test_sizes_that_contradict_each_other_are_refused(blobs, mixture):
    three = om.couplings.Balanced(np.full(3, 1 / 3))
    for call in (
        lambda: om.plan(mixture, blobs, coupling=three),
        lambda: om.solve(om.Problem(blobs, coupling=three), mixture),
        lambda: om.plan(mixture, blobs, coupling=om.couplings.Penalized(1.0, np.full(3, 1 / 3))),
    ):
        with pytest.raises(ValueError, match=r"sizes have shape \(3,\), the mixture has 2"):
            call()
    off = om.Mixture(jnp.log(jnp.full(3, 1 / 3)), mixture.components)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), mixture)
    for door in (om.negative_log_likelihood, om.plan, lambda m, x: m.predict(x)):
        with pytest.raises(ValueError, match=r"shape \(3,\) for 2 components"):
            door(off, blobs)
        with pytest.raises(ValueError, match=r"a batch.*batch\[0\]\.mixture"):
            door(stacked, blobs)
    with pytest.raises(ValueError, match=r"60 numbers, one per row of x, not shape \(3,\)"):
        om.negative_log_likelihood(mixture, blobs, np.ones(3))


def test_columns_by_name_are_checked_part_by_part(blobs, mixture):
    size = Gaussian(jnp.array([[0.0], [2.0]]), Diagonal(jnp.ones((2, 1))))
    parts = {"size": size, "visits": Poisson(jnp.array([[1.0], [3.0]]))}
    product = om.Mixture(mixture.log_weights, Product(parts))
    rows = {"size": blobs[:, 0], "visits": np.arange(60) % 4}
    held = om.Mixture(product.log_weights, Frozen(product.components, "size"))
    for model in (product, held):
        for door in (om.negative_log_likelihood, om.plan, lambda m, x: m.log_prob(x)):
            with pytest.raises(ValueError, match=r"dict of \['size', 'visits'\], not \['size'\]"):
                door(model, {"size": rows["size"]})
            with pytest.raises(ValueError, match=r"must be a dict of"):
                door(model, blobs)
            with pytest.raises(ValueError, match=r"'size': rows have 2 columns, the mixture 1"):
                door(model, rows | {"size": blobs})
            with pytest.raises(ValueError, match=r"column 'visits'.*real numbers, not <U"):
                door(model, rows | {"visits": np.array(["a"] * 60)})
    expected = om.negative_log_likelihood(product, rows)
    assert om.negative_log_likelihood(product, Frame(rows)) == expected
    np.testing.assert_array_equal(product.predict(Frame(rows)), product.predict(rows))


class Frame:
    """What is asked of a data frame."""

    def __init__(self, columns):
        self.columns, self.data = list(columns), columns

    def __getitem__(self, name):
        return self.data[name]

    def __len__(self):
        return len(self.data[self.columns[0]])


class Column:
    """What is asked of a column: a dtype of its own, and what is missing."""

    def __init__(self, values, dtype, missing=()):
        self.values, self.dtype, self.missing = np.asarray(values), dtype, list(missing)

    def __array__(self, dtype=None, copy=None):
        return self.values.astype(dtype or self.values.dtype)

    def __len__(self):
        return len(self.values)

    def isna(self):
        return np.isin(np.arange(len(self.values)), self.missing)


COLUMNS = {
    "nullable": (Column([1.0, np.nan, 3.0, 4.0], "Int64", [1]), "'b' has 1 missing.*row 1"),
    "none": (
        Column(np.array([1, None, 3, 4], object), np.dtype(object), [1]),
        "'b' has 1 missing.*row 1",
    ),
    "strings": (Column(np.array(list("abcd"), object), np.dtype(object)), "'b'.*'a' among"),
    "categories": (Column([0, 1, 0, 1], "category"), "'b'.*categories.*rows.codes"),
    "dates": (np.zeros(4, "datetime64[s]"), r"'b'.*datetime64.*origin"),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_frame_names_the_column_at_every_door(mixture, case):
    column, words = COLUMNS[case]
    frame = Frame({"a": np.arange(4.0), "b": column})
    for call in (
        lambda: fit(frame, 2, key=0),
        lambda: fit_batch([frame], 2, key=0),
        lambda: select(frame, [2], key=0),
        lambda: mixture.predict(frame),
        lambda: om.negative_log_likelihood(mixture, frame),
        lambda: om.plan(mixture, frame),
        lambda: om.solve(om.Problem(frame), mixture),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_a_frame_of_numbers_is_its_table(blobs, mixture):
    frame = Frame({"a": blobs[:, 0], "b": Column(blobs[:, 1], "Float64")})
    np.testing.assert_array_equal(mixture.log_prob(frame), mixture.log_prob(blobs))
    assert om.fit(frame, 2, key=0, **FEW).value == om.fit(blobs, 2, key=0, **FEW).value
    frame.data["a"] = np.where(np.arange(60) == 7, np.nan, blobs[:, 0])
    with pytest.raises(ValueError, match="row 7, column 'a'"):
        om.fit(frame, 2, key=0)


def test_masked_values_are_refused_at_every_door(blobs, mixture):
    mask = np.zeros(blobs.shape, bool)
    mask[[3, 9], [1, 0]] = True
    hidden, seen = np.ma.masked_array(blobs, mask), np.ma.masked_array(blobs, False)
    weight = np.ma.masked_array(np.ones(60), np.arange(60) == 5)
    for call in (
        lambda x: fit(x, 2, key=0),
        lambda x: fit_batch([x], 2, key=0),
        lambda x: fit_batch(x[None], 2, key=0),
        lambda x: select(x, [2], key=0),
        lambda x: om.initializers.kmeans(jax.random.key(0), om.Problem(x), n_components=2),
    ):
        with pytest.raises(ValueError, match="2 masked.*row 3, column 1; drop or impute"):
            call(hidden)
    for call in (
        lambda: fit(blobs, 2, key=0, sample_weight=weight),
        lambda: fit_batch([blobs], 2, key=0, sample_weight=[weight]),
        lambda: select(blobs, [2], key=0, sample_weight=weight),
        lambda: om.negative_log_likelihood(mixture, blobs, weight),
        lambda: om.plan(mixture, blobs, sample_weight=weight),
    ):
        with pytest.raises(ValueError, match=r"sample_weight.* 1 masked.*row 5"):
            call()
    assert om.negative_log_likelihood(mixture, seen) == om.negative_log_likelihood(mixture, blobs)
    present = np.ones(60)
    present[[3, 9]] = 0
    np.testing.assert_allclose(
        om.negative_log_likelihood(mixture, hidden, present),
        om.negative_log_likelihood(mixture, blobs, present),
        rtol=1e-15,
    )


@pytest.mark.slow
def test_keys(blobs):
    raw, typed = jax.random.PRNGKey(3), jax.random.key(3)
    for key in (raw, np.asarray(raw), typed, 3, np.int64(3)):
        assert fit(blobs, 2, key=key, **FEW).value == fit(blobs, 2, key=typed, **FEW).value
    batches = [fit_batch([blobs], 2, key=key, **FEW).value for key in (raw, typed)]
    assert batches[0] == batches[1]
    chosen = [select(blobs, [2], key=k, covariance="tied", **FEW).best.value for k in (raw, typed)]
    assert chosen[0] == chosen[1]
    for key in (
        None,
        0.0,
        "0",
        True,
        jax.random.split(typed, 2),
        2**64,
        np.zeros(2),
        np.zeros(3, np.uint32),
    ):
        for call in (fit, fit_batch, select):
            x, k = ([blobs], 2) if call is fit_batch else (blobs, [2] if call is select else 2)
            with pytest.raises(ValueError, match="key must be"):
                call(x, k, key=key)


@pytest.fixture(scope="module")
def padded(blobs):
    """Rows, two of which are absent and hold no numbers; and their weights."""
    x = np.insert(blobs, [0, 31], np.nan, axis=0)
    x[32] = np.inf
    weight = np.linspace(0.5, 1.5, 62)
    weight[[0, 32]] = 0
    return x, weight


@pytest.mark.slow
def test_an_absent_row_may_hold_anything(blobs, mixture, padded):
    """At every door the answer is that without it."""
    (x, weight), rest = padded, np.delete(padded[1], [0, 32])
    short = [
        om.negative_log_likelihood(mixture, y.astype(np.float32), w)
        for y, w in ((x, weight), (blobs, rest))
    ]
    np.testing.assert_allclose(*short, rtol=1e-6)
    for door in (
        om.negative_log_likelihood,
        lambda m, x, w: om.plan(m, x, sample_weight=w, coupling=om.couplings.Balanced()).value,
        lambda m, x, w: om.certificate(m, x, sample_weight=w).gap,
        errors,
        lambda m, x, w: errors(m, x, w, robust=True),
        lambda m, x, w: om.solve(om.Problem(x, w), m, tolerance=1e-12).mixture.components.mean,
    ):
        ours, theirs = door(mixture, x, weight), door(mixture, blobs, rest)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


DEVICE = pytest.param(jnp.asarray, id="device", marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("array", [pytest.param(np.asarray, id="host"), DEVICE])
def test_fits_leave_absent_rows_out(blobs, padded, array):
    (x, weight), rest = padded, np.delete(padded[1], [0, 32])
    options = {"key": 0, "starts": om.Starts(n_init=2), "limits": om.Limits(tolerance=1e-12)}
    ours = om.fit(array(x), 2, sample_weight=weight, **options)
    theirs = om.fit(array(blobs), 2, sample_weight=rest, **options)
    assert_same_mixture(ours.mixture, theirs.mixture, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-12)
    batch = om.fit_batch([x], 2, sample_weight=[weight], **options)
    alone = om.fit(blobs, 2, sample_weight=rest, **options | {"key": jax.random.fold_in(
        jax.random.key(0), 0)})  # fmt: skip
    np.testing.assert_allclose(batch.value[0], alone.value, rtol=1e-12)
    tried = {"covariance": "full", "criterion": "cross_validation", "n_folds": 2, **options}
    ours, theirs = (
        om.select(array(y), [2], sample_weight=w, **tried) for y, w in ((x, weight), (blobs, rest))
    )
    assert_same_mixture(ours.best.mixture, theirs.best.mixture, rtol=1e-11, atol=1e-11)
    values = [one.best_candidate.cross_validation for one in (ours, theirs)]
    np.testing.assert_allclose(*values, rtol=1e-9)
    weight = weight.copy()
    weight[32] = 1
    for call, k in ((om.fit, 2), (om.select, [2])):
        with pytest.raises(ValueError, match="2 NaN or infinite cells, the first at row 32"):
            call(array(x), k, key=0, sample_weight=weight)


@pytest.mark.slow
def test_absent_rows_may_lie_off_the_support():
    rng = np.random.default_rng(0)
    rows = rng.poisson(np.where(np.arange(60) < 25, 2, 9))[:, None].astype(float)
    weight = np.ones(60)
    weight[:2] = 0
    off = rows.copy()
    off[:2] = [[-3.0], [0.5]]
    for family in (None, "poisson"):
        ours = om.fit(off, 2, key=0, family=family, sample_weight=weight, **FEW)
        theirs = om.fit(rows[2:], 2, key=0, family=family, **FEW)
        np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-12)
    mixture = ours.mixture
    value = om.negative_log_likelihood(mixture, off, weight)
    np.testing.assert_allclose(value, om.negative_log_likelihood(mixture, rows[2:]), rtol=1e-12)


@pytest.mark.slow
def test_derivatives_pass_an_absent_row_by(blobs, mixture, padded):
    (x, weight), rest = padded, np.delete(padded[1], [0, 32])

    def loss(m, x, w):
        return om.negative_log_likelihood(m, x, w)

    def answer(m, x, w):
        end = om.solve(om.Problem(x, w), jax.lax.stop_gradient(m), tolerance=1e-12)
        return end.mixture.components.mean[0, 0]

    for function in (loss, answer):
        gradient = jax.jit(jax.grad(function, argnums=(1, 2)))
        ours, theirs = gradient(mixture, x, weight), gradient(mixture, blobs, rest)
        assert all(np.isfinite(leaf).all() for leaf in ours)
        ours = [np.asarray(leaf) for leaf in ours]
        np.testing.assert_array_equal(ours[0][[0, 32]], 0)
        np.testing.assert_allclose(np.delete(ours[0], [0, 32], 0), theirs[0], atol=1e-10)
        np.testing.assert_allclose(np.delete(ours[1], [0, 32]), theirs[1], atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("held", ["mean", "covariance"])
def test_what_is_frozen_can_be_read(blobs, mixture, held):
    pytest.importorskip("matplotlib").use("Agg")
    from otmix_jax import plot

    frozen = om.Mixture(mixture.log_weights, Frozen(mixture.components, held))
    end = om.fit(blobs, 2, key=0, starts=om.Starts(initial=frozen), goal=om.Goal(ridge=1e-3))
    components = end.mixture.components
    assert components.held == held
    np.testing.assert_array_equal(components.mean, components.inner.mean)
    assert components.covariance is components.inner.covariance
    with pytest.raises(AttributeError, match="nothing"):
        _ = components.nothing
    copied = jax.tree.map(jnp.array, components)
    np.testing.assert_array_equal(copied.mean, components.mean)
    errors = om.standard_errors(end, blobs)
    learned = errors.covariances if held == "mean" else errors.means
    kept = errors.means if held == "mean" else errors.covariances
    assert (np.asarray(learned) > 0).any()
    np.testing.assert_array_equal(kept, 0)
    covariance = om.inference.parameter_covariance(end.mixture, blobs)
    ellipses = om.inference.confidence_ellipses(covariance)
    np.testing.assert_array_equal(ellipses.centre, components.mean)
    assert (np.asarray(ellipses.half_lengths) > 0).all() == (held == "covariance")
    assert len(plot.mixture(end.mixture, blobs).patches) == 2


def test_a_picture_has_the_columns_of_the_mixture(blobs, mixture):
    pytest.importorskip("matplotlib").use("Agg")
    from otmix_jax import plot

    picture = inspect.unwrap(plot.mixture)
    with pytest.raises(ValueError, match="rows have 3 columns"):
        picture(mixture, np.column_stack([blobs, blobs[:, 0]]))
    with pytest.raises(ValueError, match="masked"):
        picture(mixture, np.ma.masked_array(blobs, blobs > 4))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["host", "device"])
def test_short_floats_are_read_as_float64(blobs, mixture, dtype, array):
    short = array(blobs.astype(dtype))
    plain = np.asarray(short).astype(np.float64)
    assert om.fit(short, 1, key=0, **FEW).value.dtype == np.float64
    for door in ("likelihood", "log_prob", "solve"):
        ours = DOORS[door](mixture, short)
        assert ours.dtype == np.float64
        np.testing.assert_array_equal(ours, DOORS[door](mixture, plain))


LAYOUTS = {
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "fortran": np.asfortranarray,
    "reversed": lambda x: x[::-1].copy()[::-1],
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "read-only": lambda x: np.lib.stride_tricks.as_strided(x, writeable=False),
    "list": lambda x: x.tolist(),
    "longdouble": lambda x: x.astype(np.longdouble),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_layout_in_memory_changes_nothing(blobs, mixture, layout, dtype):
    x = blobs.astype(dtype)
    given = LAYOUTS[layout](x)
    before = np.array(given)
    same = x.astype(np.float64) if layout in ("list", "longdouble") else x
    digits = 1e-12 if dtype == np.float64 else 1e-6
    ours, plain = om.fit(given, 2, key=0, **FEW), om.fit(same, 2, key=0, **FEW)
    assert ours.value.dtype == same.dtype
    np.testing.assert_allclose(ours.value, plain.value, rtol=digits)
    np.testing.assert_allclose(
        om.negative_log_likelihood(mixture, given),
        om.negative_log_likelihood(mixture, x),
        rtol=digits,
    )
    np.testing.assert_allclose(mixture.log_prob(given), mixture.log_prob(x), rtol=1e-6)
    np.testing.assert_array_equal(given, before)


def test_a_file_in_memory_is_rows(blobs, tmp_path):
    mapped = np.memmap(tmp_path / "rows", np.float64, "w+", shape=blobs.shape)
    mapped[:] = blobs
    mapped = np.memmap(tmp_path / "rows", np.float64, "r", shape=blobs.shape)
    assert om.fit(mapped, 2, key=0, **FEW).value == om.fit(blobs, 2, key=0, **FEW).value


@pytest.mark.parametrize("wide", [True, False])
def test_large_integers_never_wrap(wide):
    """2^64 - 1, and with 32 bits 2^40: as floating numbers, in a table and in a column."""
    with jax.enable_x64(wide):
        rows = np.array([[2**64 - 1], [2**63]], np.uint64)
        mean = jnp.asarray(rows.astype(float).astype(np.float32))
        far = Gaussian(mean, Diagonal(jnp.full((2, 1), 1e18, np.float32)))
        mixture = om.Mixture(jnp.log(jnp.full(2, 0.5, np.float32)), far)
        for x in (rows, rows.astype(float)):
            assert mixture.predict(x).tolist() == [0, 1]
            assert om.negative_log_likelihood(mixture, x) < 50
        counts = np.array([[2**40], [3]], np.int64)
        law = Product({"n": Poisson(jnp.array([[2.0**40], [3.0]], np.float32))})
        model = om.Mixture(mixture.log_weights, law)
        assert model.predict({"n": counts}).tolist() == [0, 1]
        assert float(om.Problem({"n": counts}).checked().x["n"].max()) == 2.0**40
        weight = np.array([2**40, 0])
        value = inspect.unwrap(om.negative_log_likelihood)(mixture, rows, weight)
        np.testing.assert_allclose(value, -mixture.log_prob(rows)[0], rtol=1e-6)


UNREADABLE = {
    "dates": (np.zeros((5, 2), "datetime64[s]"), "datetime64.*origin"),
    "strings": (np.array([["1", "2"]] * 5), "real numbers, not <U"),
    "complex": (np.ones((5, 2), complex), "real numbers, not complex"),
    "object": (np.array([[1, "a"]] * 5, object), "object.*'a' among"),
    "ragged": ([[1.0], [1.0, 2.0]], "ragged"),
    "generator": ((row for row in np.ones((5, 2))), "a generator: make it a list"),
    "none": (None, "real numbers.*not None"),
    "text": ("rows.csv", "not 'rows.csv'"),
    "scalar": (3.0, r"two dimensions"),
    "empty": (np.zeros((0, 2)), r"empty"),
    "vector": (np.zeros(5), r"x\[:, None\]"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_no_rows_are_is_named(mixture, case):
    x, words = UNREADABLE[case]
    with pytest.raises(ValueError, match=words):
        fit(x, 2, key=0)
    with pytest.raises(ValueError, match=words):
        select(x, [2], key=0)
    if case != "empty":
        with pytest.raises(ValueError, match=r"x\[0\].*real numbers|x\[0\].*ragged"):
            fit_batch([x], 2, key=0)
        with pytest.raises(ValueError, match=words):
            mixture.predict(x)
        with pytest.raises(ValueError, match=words):
            om.plan(mixture, x)


def wrong_start(**changes):
    """A start of which something is off."""
    mean = changes.get("mean", np.array([[0.0, 0.0], [2.0, 2.0]]))
    factor = changes.get("factor", jnp.stack([jnp.eye(2)] * 2))
    log_weights = changes.get("log_weights", np.log([0.5, 0.5]))
    return om.Mixture(jnp.asarray(log_weights), Gaussian(jnp.asarray(mean), Full(factor)))


def matrices(second):
    return Full.from_matrices(jnp.stack([jnp.eye(2), jnp.asarray(second)])).factor


STARTS = {
    "singular": ({"factor": matrices([[1.0, 1.0], [1.0, 1.0]])}, "component 1.*definite"),
    "indefinite": ({"factor": matrices([[1.0, 2.0], [2.0, 1.0]])}, "component 1.*definite"),
    "matrix": (
        {"factor": jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.5], [0.2, 1.0]]])},
        "component 1.*lower-triangular.*from_matrices",
    ),
    "zero": ({"factor": jnp.zeros((2, 2, 2))}, "component 0.*positive definite"),
    "nan": ({"mean": np.array([[0.0, 0.0], [np.nan, 1.0]])}, "mean of component 1 must be finite"),
    "negative weights": (
        {"log_weights": np.array([np.nan, 0.4])},
        "proportions.*of sum 1",
    ),
    "weights": ({"log_weights": np.zeros(2)}, r"\[1. 1.\].*of sum 1.*from_weights"),
    "mean": ({"mean": np.zeros((3, 2))}, r"mean must have 2 axes.*length 2, not shape \(3, 2\)"),
    "factor": ({"factor": jnp.stack([jnp.eye(3)] * 2)}, r"shape \(2, 3, 3\).*\(2, 2, 2\)"),
}


@pytest.mark.parametrize("case", STARTS)
def test_a_start_names_the_component(blobs, case):
    changes, words = STARTS[case]
    initial = wrong_start(**changes)
    with pytest.raises(ValueError, match=words):
        fit(blobs, 2, key=0, starts=om.Starts(initial=initial))
    with pytest.raises(ValueError, match=words):
        select(blobs, [2], key=0, covariance="full", starts=om.Starts(initial=[initial]))


def test_starts_of_another_size_are_refused(blobs, mixture):
    one = om.Starts(initial=mixture)
    wide = np.column_stack([blobs, np.sin(np.arange(60))])
    with pytest.raises(ValueError, match="initial has 2 components, but n_components=3"):
        fit(blobs, 3, key=0, starts=one)
    with pytest.raises(ValueError, match="rows have 3 columns, the mixture 2"):
        fit(wide, 2, key=0, starts=one)
    with pytest.raises(TypeError, match="must be a Mixture.*not Gaussian"):
        fit(blobs, 2, key=0, starts=om.Starts(initial=mixture.components))
    listed = om.Starts(initial=[mixture, mixture])
    with pytest.raises(ValueError, match=r"initial\[0\] has 2 components.*\[1, 3\]"):
        select(blobs, [1, 3], key=0, starts=listed)
    with pytest.raises(ValueError, match="rows have 3 columns, the mixture 2"):
        select(wide, [2], key=0, starts=listed)
    with pytest.raises(ValueError, match=r"initial\[0\] has components Gaussian.*tied"):
        select(blobs, [2], key=0, covariance="tied", starts=listed)
    three = om.Starts(initial=jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), mixture))
    for given in (one, three):
        with pytest.raises(ValueError, match="leading axis of 2 data sets"):
            fit_batch([blobs, blobs], 2, key=0, starts=given)
    with pytest.raises(ValueError, match="initial has 2 components, but n_components=3"):
        fit_batch([blobs] * 3, 3, key=0, starts=three)
    with pytest.raises(ValueError, match="rows have 3 columns, the mixture 2"):
        fit_batch([wide] * 3, 2, key=0, starts=three)
    with pytest.raises(ValueError, match=r"a batch.*batch\[0\]"):
        fit(blobs, 2, key=0, starts=three)


def of(kind, *values):
    """A prior without the suite's own type checks."""
    prior = object.__new__(getattr(om.priors, kind))
    for name, value in zip(type(prior).__dataclass_fields__, values, strict=True):
        object.__setattr__(prior, name, value)
    return prior


@pytest.mark.slow
def test_priors_take_lists(blobs, mixture):
    for kind, *values in (
        ("NormalMean", [0.0, 0.0], 0.1),
        ("Ridge", 1e-3, [1, 1]),
        ("Dirichlet", [1, 2]),
    ):
        ours = of(kind, *values)
        arrays = [np.asarray(v, float) if isinstance(v, list) else v for v in values]
        theirs = getattr(om.priors, kind)(*arrays)
        fits = [fit(blobs, 2, key=0, goal=om.Goal(prior=p), **FEW).value for p in (ours, theirs)]
        assert fits[0] == fits[1]
        runs = [om.solve(om.Problem(blobs, prior=p), mixture).objective for p in (ours, theirs)]
        assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (("Dirichlet", -1.0), "weights.strength must be finite and >= 0, not -1"),
        (("Dirichlet", [1.0, np.nan]), "weights.strength must be finite"),
        (("NormalMean", [0.0, 0.0], -1.0), "mean.strength must be finite and >= 0"),
        (("NormalMean", [0.0, np.nan], 1.0), "mean.centre must be finite"),
        (("Ridge", -1.0, [1.0, 1.0]), "covariance.strength must be finite and >= 0"),
        (("Ridge", 1.0, [1.0, np.inf]), "covariance.variance must be finite"),
        (("Dirichlet", "strong"), "weights.strength must hold numbers"),
    ],
)
def test_a_prior_out_of_range_is_refused(blobs, prior, words):
    goal = om.Goal(prior=of(*prior))
    for call, x, k in ((fit, blobs, 2), (fit_batch, [blobs], 2), (select, blobs, [2])):
        with pytest.raises(ValueError, match=words):
            call(x, k, key=0, goal=goal)


def bare(kind, **values):
    """Options without the suite's own type checks."""
    instance = kind()
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    return instance


NUMBERS = {
    "solver": ({"solver": om.solvers.EM}, TypeError, r"pass an instance, EM\(\)"),
    "K = 2.0": ({"n_components": 2.0}, ValueError, "integer.*pass 2, not 2.0"),
    "K = '2'": ({"n_components": "2"}, ValueError, "integer >= 1, such as 3, not '2'"),
    "K = True": ({"n_components": True}, ValueError, "integer >= 1, such as 3, not True"),
    "K = 0": ({"n_components": 0}, ValueError, "n_components must be >= 1, not 0"),
    "K = -1": ({"n_components": -1}, ValueError, "n_components must be >= 1, not -1"),
    "n_init": ({"starts": om.Starts(n_init=0)}, ValueError, "n_init must be >= 1, not 0"),
    "tolerance nan": ({"limits": om.Limits(np.nan)}, ValueError, "tolerance.*not nan"),
    "tolerance < 0": ({"limits": om.Limits(-1e-3)}, ValueError, "tolerance.*not -0.001"),
    "max_steps": ({"limits": om.Limits(1e-6, -1)}, ValueError, "max_steps must be >= 0, not -1"),
    "ridge nan": ({"goal": bare(om.Goal, ridge=np.nan)}, ValueError, "ridge.*not nan"),
    "ridge inf": ({"goal": bare(om.Goal, ridge=np.inf)}, ValueError, "ridge.*not inf"),
    "ridge < 0": ({"goal": bare(om.Goal, ridge=-1.0)}, ValueError, "ridge.*not -1"),
    "epsilon < 0": ({"goal": bare(om.Goal, epsilon=-1.0)}, ValueError, "epsilon.*not -1"),
    "epsilon nan": ({"goal": bare(om.Goal, epsilon=np.nan)}, ValueError, "epsilon.*not nan"),
    "rho < 0": (
        {"goal": om.Goal(coupling=om.couplings.Penalized(-1.0))},
        ValueError,
        "rho.*not -1",
    ),
    "rho nan": (
        {"goal": om.Goal(coupling=om.couplings.Penalized(np.nan))},
        ValueError,
        "rho.*not nan",
    ),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_number_out_of_range_says_what_to_pass(blobs, case):
    options, kind, words = NUMBERS[case]
    count = options.get("n_components", 2)
    rest = {"key": 0} | {name: v for name, v in options.items() if name != "n_components"}
    for call, x, k in ((fit, blobs, count), (fit_batch, [blobs], count), (select, blobs, [count])):
        with pytest.raises(kind, match=words):
            call(x, k, **rest)


def test_plans_refuse_what_is_out_of_range_and_let_tracers_pass(blobs, mixture):
    for epsilon in (-1.0, np.nan, np.inf, "1"):
        for call in (plan, certificate):
            with pytest.raises(ValueError, match="epsilon must be a finite number >= 0"):
                call(mixture, blobs, epsilon=epsilon)
    for rho in (-1.0, np.nan):
        with pytest.raises(ValueError, match="rho must be a number >= 0"):
            plan(mixture, blobs, coupling=om.couplings.Penalized(rho))
    value = om.plan(mixture, blobs, epsilon=0.5).dual_value
    traced = jax.jit(lambda e: om.plan(mixture, blobs, epsilon=e).dual_value)(0.5)
    np.testing.assert_allclose(traced, value, rtol=1e-14)
    with pytest.raises(TypeError, match="pass an instance"):
        inspect.unwrap(om.solve)(om.Problem(blobs), mixture, om.solvers.EM)


def test_a_coupling_is_an_instance(blobs):
    goal = bare(om.Goal, coupling=om.couplings.Balanced)
    for call, x in ((fit, blobs), (fit_batch, [blobs])):
        with pytest.raises(TypeError, match=r"an instance, such as Balanced\(\)"):
            call(x, 2, key=0, goal=goal)


def test_labels_are_as_many_as_rows(blobs):
    from_labels = inspect.unwrap(om.initializers.from_labels)
    with pytest.raises(ValueError, match=r"60 rows, not of shape \(59,\)"):
        from_labels(om.Problem(blobs), jnp.zeros(59, int), 2)


def test_the_bad_data_set_of_a_batch_is_named(blobs):
    for bad, words in (
        (blobs[:, 0], r"x\[1\].*shape \(60,\).*x\[1\]\[:, None\]"),
        (blobs.astype(str), r"x\[1\]: .*real numbers"),
        (None, r"x\[1\]: .*not None"),
        ({"a": blobs[:, 0]}, r"x\[1\] must be a table.*dict of \['a'\]"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_batch([blobs, bad], 2, key=0)
    with pytest.raises(TypeError, match=r"x\[1\]: x is sparse.*toarray"):
        fit_batch([blobs, scipy.sparse.csr_array(blobs)], 2, key=0)
    family = Product.of(n=Categorical.of(levels=2))
    with pytest.raises(ValueError, match=r"x\[0\] must be a dict of columns, not a table"):
        fit_batch([blobs], 2, key=0, family=family)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half = om.fit_batch([blobs.astype(np.float16)], 1, key=0, **FEW)
    assert half.value.dtype == np.float64
