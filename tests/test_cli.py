"""The command line: in this process for its numbers, as a shell sees it for its manners."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import scipy.stats
from sklearn.metrics import adjusted_rand_score

import otmix_jax as om
from otmix_jax.cli import reports
from otmix_jax.cli.main import main
from otmix_jax.cli.tables import read_table

PENGUINS = str(Path(__file__).parent / "data" / "penguins.csv")
BILL = ["bill_len", "bill_dep"]
ONE_START = ("--n-init", "1", "--no-cache")


class Ran:
    """What a command left behind."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def table(self):
        return pandas.read_csv(io.BytesIO(self.out))


@pytest.fixture
def run(capsysbinary, monkeypatch):
    """Runs a command in this process, whose programs are compiled once."""

    def call(*arguments, given=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        out, err = capsysbinary.readouterr()
        return Ran(ended.value.code, out, err.decode())

    return call


@pytest.fixture(scope="module")
def penguins():
    return pandas.read_csv(PENGUINS)


@pytest.fixture(scope="module")
def whole(penguins, tmp_path_factory):
    """The rows that miss no measurement, as a file."""
    path = tmp_path_factory.mktemp("tables") / "whole.csv"
    penguins.dropna(subset=BILL).to_csv(path, index=False)
    return str(path)


@pytest.fixture(scope="module")
def model(whole, tmp_path_factory):
    """A fitted model's file."""
    path = str(tmp_path_factory.mktemp("models") / "model.npz")
    with pytest.raises(SystemExit) as ended:
        main(["fit", whole, "-k", "3", "-c", ",".join(BILL), "-q", "-o", path, *ONE_START])
    assert ended.value.code == 0
    return path


def log_density(weights, means, covariances, x):
    """By SciPy."""
    parts = [
        np.log(weight) + scipy.stats.multivariate_normal(mean, cov).logpdf(x)
        for weight, mean, cov in zip(weights, means, covariances, strict=True)
    ]
    return scipy.special.logsumexp(np.column_stack(parts), axis=1)


def test_fit_says_what_python_says(run, whole, penguins, tmp_path):
    path, assigned = tmp_path / "model.npz", tmp_path / "assigned.csv"
    columns = ("-c", ",".join(BILL), "--labels", "species")
    files = ("-o", path, "-a", assigned)
    ran = run("fit", whole, "-k", 3, *columns, *files, "--json", *ONE_START)
    assert ran.code == 0, ran.err
    assert ran.err == ""
    there = penguins.dropna(subset=BILL)
    x, found = there[BILL].to_numpy(), ran.json
    solution = om.fit(x, 3, key=0, covariance="full", starts=om.Starts(n_init=1))
    assert found["value"] == float(solution.value)
    own = found["mixture"]["parameters"]
    density = log_density(own["weight"], own["mean"], own["covariance"], x)
    assert found["log_likelihood"] == pytest.approx(density.sum(), rel=1e-12)
    assert found["mixture"]["n_parameters"] == 2 + 3 * 2 + 3 * 3
    assert found["bic"] == pytest.approx(-2 * density.sum() + 17 * np.log(len(x)), rel=1e-12)
    assert found["aic"] == pytest.approx(-2 * density.sum() + 2 * 17, rel=1e-12)
    assert found["columns"] == BILL
    saved = om.load(path)
    assert np.array_equal(saved.mixture.components.mean, solution.mixture.components.mean)
    rows = pandas.read_csv(assigned)
    shares = np.asarray(solution.mixture.responsibilities(x))
    assert np.array_equal(rows["component"], shares.argmax(1))
    assert np.array_equal(rows["probability"], shares.max(1))
    labels = found["labels"]
    expected = adjusted_rand_score(there["species"], rows["component"])
    assert labels["adjusted_rand_index"] == pytest.approx(expected, abs=1e-12)
    counts = pandas.crosstab(there["species"], rows["component"].to_numpy())
    assert np.array_equal(list(labels["table"].values()), counts)


@pytest.mark.parametrize("kind", ["tsv", "parquet", "npy", "stdin"])
def test_every_format_is_read(run, whole, model, kind, tmp_path):
    frame = pandas.read_csv(whole)
    path, given = str(tmp_path / f"rows.{kind}"), b""
    if kind == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "npy":
        cells = np.array([tuple(row) for row in frame[BILL].to_numpy()], [(n, float) for n in BILL])
        np.save(path, cells)
    else:
        path, given = "-", Path(whole).read_bytes()
    ran = run("predict", model, path, "--no-cache", given=given)
    assert ran.code == 0, ran.err
    expected = om.load(model).mixture.predict(frame[BILL].to_numpy())
    assert np.array_equal(ran.table["component"], expected)


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_a_first_line_of_numbers_is_a_row(tmp_path, mark):
    path = tmp_path / "rows.csv"
    path.write_bytes(f"{mark}1,nan\r\n3,4\r\n".encode())
    columns = read_table(str(path)).columns
    np.testing.assert_array_equal([columns["0"], columns["1"]], [[1, 3], [np.nan, 4]])
    path.write_bytes(f"{mark}1,b\n3,4\n".encode())
    assert {name: cells.tolist() for name, cells in read_table(str(path)).columns.items()} == {
        "1": [3],
        "b": [4],
    }


def test_columns_go_by_their_names(run, whole, model, tmp_path):
    path = str(tmp_path / "turned.csv")
    pandas.read_csv(whole)[[*reversed(BILL), "species"]].to_csv(path, index=False)
    first, second = (run("score", model, p, "--json", "--no-cache").json for p in (whole, path))
    assert first == second


def test_predict_score_and_their_tables(run, whole, model, tmp_path):
    x = pandas.read_csv(whole)[BILL].to_numpy()
    mixture = om.load(model).mixture
    ran = run("predict", model, whole, "--probabilities", "--no-cache")
    shares = ran.table[["p0", "p1", "p2"]].to_numpy()
    assert np.array_equal(shares, mixture.responsibilities(x))
    each = tmp_path / "each.parquet"
    found = run("score", model, whole, "--json", "-o", each, "--no-cache").json
    covariance = np.asarray(mixture.components.matrices())
    density = log_density(mixture.weights, mixture.components.mean, covariance, x)
    np.testing.assert_allclose(pandas.read_parquet(each)["log_prob"], density, rtol=1e-12)
    assert found["mean_log_likelihood"] == pytest.approx(density.mean(), rel=1e-12)


def test_sample_is_the_mixtures(run, model, tmp_path):
    ran = run("sample", model, "-n", 4000, "--seed", 3, "--components", "--no-cache")
    assert list(ran.table) == [*BILL, "component"]
    rows, mixture = ran.table[BILL].to_numpy(), om.load(model).mixture
    error = np.sqrt(np.diag(mixture.covariance) / len(rows))
    assert (abs(rows.mean(0) - mixture.mean) < 4 * error).all()
    assert np.array_equal(rows, mixture.sample(jax.random.key(3), 4000))
    again = tmp_path / "rows.npy"
    assert run("sample", model, "-n", 4000, "--seed", 3, "-o", again, "--no-cache").code == 0
    assert np.array_equal(np.load(again), rows)


def test_plan_has_the_sizes_it_was_told(run, whole, model, tmp_path):
    path, n = tmp_path / "plan.csv", len(pandas.read_csv(whole))
    ran = run("plan", model, whole, "--sizes", "1,2,1", "-o", path, "--json", "--no-cache")
    assert ran.code == 0, ran.err
    plan = pandas.read_csv(path)[["p0", "p1", "p2"]].to_numpy()
    np.testing.assert_allclose(plan.sum(0), [0.25, 0.5, 0.25], atol=1e-6)
    np.testing.assert_allclose(plan.sum(1), 1 / n, rtol=1e-12)
    # the optimum has the form a_i pi_j exp((f_i + g_j - C_ij)), so log-ratios of two columns do
    mixture, x = om.load(model).mixture, pandas.read_csv(whole)[BILL].to_numpy()
    potential = (
        np.log(plan) + np.asarray(mixture.components.cost(jnp.asarray(x))) - np.log(mixture.weights)
    )
    difference = potential[:, 0] - potential[:, 1]
    np.testing.assert_allclose(difference, np.subtract(*ran.json["g"][:2]), atol=1e-9)
    free = run("plan", model, whole, "--json", "--no-cache").json
    density = np.asarray(mixture.log_prob(x))
    assert free["value"] == pytest.approx(-density.mean(), rel=1e-12)


@pytest.mark.slow
def test_select_and_a_range(run, whole, tmp_path):
    path = tmp_path / "choice.npz"
    asked = ("-c", ",".join(BILL), *ONE_START)
    ran = run(
        "select", whole, "-k", "1:2", "--covariance", "full,tied", "-o", path, "--json", *asked
    )
    assert ran.code == 0, ran.err
    found = ran.json["candidates"]
    assert [(one["covariance"], one["n_components"]) for one in found] == [
        ("full", 1), ("full", 2), ("tied", 1), ("tied", 2)
    ]  # fmt: skip
    best = min(found, key=lambda one: one["bic"])
    assert best["best"]
    assert ran.json["mixture"]["n_components"] == best["n_components"] == 2
    assert ran.json["bic"] == pytest.approx(best["bic"], rel=1e-12)
    assert om.load(path).best_candidate.bic == best["bic"]
    assert run("info", path, "--json").json["kind"] == "Choice"
    shown = run("info", path).out.decode()
    assert "<- best" in shown
    assert "bill_len" in shown


@pytest.mark.slow
def test_the_best_of_a_range(run, whole):
    asked = ("-c", ",".join(BILL), *ONE_START)
    range_of = run("fit", whole, "-k", "1,2", "--criterion", "aic", "--json", *asked).json
    assert range_of["criterion"] == "aic"
    assert {one["covariance"] for one in range_of["candidates"]} == {"full"}


@pytest.mark.slow
def test_weights_count_rows(run, whole, tmp_path):
    frame = pandas.read_csv(whole).assign(times=1.0)
    frame.loc[frame.index % 5 == 0, "times"] = 0.0
    path = tmp_path / "weighted.csv"
    frame.to_csv(path, index=False)
    asked = ("-k", 2, "-c", ",".join(BILL), "--weights", "times", "--json")
    found = run("fit", path, *asked, *ONE_START).json
    solution = om.fit(
        frame[BILL], 2, key=0, sample_weight=frame["times"], starts=om.Starts(n_init=1)
    )
    assert found["value"] == float(solution.value)
    assert found["total_weight"] == frame["times"].sum()


def test_groups_share_a_component(run, whole, tmp_path):
    path, assigned = tmp_path / "units.npz", tmp_path / "units.csv"
    asked = ("-k", 2, "-c", ",".join(BILL), "--groups", "island", "--labels", "island")
    ran = run("fit", whole, *asked, "-o", path, "-a", assigned, "--json", *ONE_START)
    assert ran.code in (0, 3), ran.err
    frame = pandas.read_csv(whole)
    table = pandas.read_csv(assigned)
    assert list(table["island"]) == list(dict.fromkeys(frame["island"]))
    rows = om.rows.repeated(frame[BILL].to_numpy(), frame["island"].to_numpy().astype(str))
    solution = om.load(path)
    assert np.array_equal(table["component"], solution.mixture.predict(rows))
    assert ran.json["total_weight"] == 3
    again = run("predict", path, whole, "--no-cache").table
    assert np.array_equal(again["component"], table["component"])


def test_missing_cells_and_text(run, penguins, tmp_path):
    path = tmp_path / "mixed.npz"
    asked = ("-k", 2, "--family", "species=categorical,bill_len+bill_dep=gaussian", *ONE_START)
    ran = run("fit", PENGUINS, *asked, "-o", path, "--json")
    assert ran.code == 0, ran.err
    species = penguins["species"]
    rows = {
        "species": pandas.Categorical(species).codes.astype(float),
        "bill_len+bill_dep": penguins[BILL].to_numpy(),
    }
    family = om.families.Product.of(**{"species": "categorical", "bill_len+bill_dep": "gaussian"})
    solution = om.fit(rows, 2, family=family, key=0, starts=om.Starts(n_init=1))
    assert ran.json["value"] == float(solution.value)
    drawn = run("sample", path, "-n", 50, "--no-cache").table
    assert list(drawn) == ["species", *BILL]
    assert set(drawn["species"]) <= set(species)
    # levels are those of the fit, whatever a later table holds of them
    one_kind = tmp_path / "gentoo.csv"
    penguins[species == "Gentoo"].to_csv(one_kind, index=False)
    at = np.flatnonzero(species == "Gentoo")
    predicted = run("predict", path, one_kind, "--no-cache").table["component"]
    assert np.array_equal(predicted, solution.mixture.predict(rows)[at])
    other = tmp_path / "other.csv"
    penguins.assign(species="Emperor").to_csv(other, index=False)
    refused = run("predict", path, other, "--no-cache")
    assert refused.code == 2
    assert "Emperor" in refused.err


@pytest.mark.slow
def test_missing_is_integrated_out(run, penguins):
    asked = ("-k", 2, "-c", ",".join(BILL), "--missing", "ignore", "--json", *ONE_START)
    found = run("fit", PENGUINS, *asked).json
    solution = om.fit(
        penguins[BILL].to_numpy(), 2, key=0, missing="ignore", starts=om.Starts(n_init=1)
    )
    assert found["value"] == float(solution.value)
    assert found["rows"] == len(penguins) == 344


@pytest.mark.slow
def test_formula(run, whole, tmp_path):
    path = tmp_path / "lines.npz"
    formula = "bill_dep ~ bill_len + sex"
    frame = pandas.read_csv(whole).dropna(subset=["sex"])
    rows = tmp_path / "sexed.csv"
    frame.to_csv(rows, index=False)
    asked = ("-k", 2, "--family", "linear_regression", "--formula", formula)
    found = run("fit", rows, *asked, "-o", path, "--json", *ONE_START).json
    expected = om.fit(
        om.rows.regression(formula, frame), 2, family="linear_regression", key=0,
        starts=om.Starts(n_init=1),
    )  # fmt: skip
    assert found["value"] == float(expected.value)
    assert run("predict", path, rows, "--no-cache").code == 0
    frame[frame["sex"] == "male"].to_csv(rows, index=False)
    refused = run("predict", path, rows, "--no-cache")
    assert refused.code == 2
    assert "same categories" in refused.err


@pytest.mark.slow
def test_options_of_a_family_and_a_start(run, whole, model, tmp_path):
    asked = ("-k", 2, "-c", ",".join(BILL), "--family", "student_t", "--json", *ONE_START)
    found = run("fit", whole, *asked, "--option", "degrees=7", "--covariance", "tied").json
    x = pandas.read_csv(whole)[BILL].to_numpy()
    family = om.families.StudentT.of("tied", degrees=7)
    expected = om.fit(x, 2, family=family, key=0, starts=om.Starts(n_init=1))
    assert found["value"] == float(expected.value)
    warm = ("fit", whole, "-k", 3, "-c", ",".join(BILL), "--initial", model, "--no-cache", "--json")
    assert run(*warm).json["value"] == pytest.approx(float(om.load(model).value), abs=1e-9)


def test_a_file_of_python_has_no_names(run, whole, model, tmp_path):
    path = str(tmp_path / "python.npz")
    om.load(model).mixture.save(path)
    two = str(tmp_path / "two.csv")
    pandas.read_csv(whole)[BILL].to_csv(two, index=False)
    assert run("score", path, two, "--json", "--no-cache").code == 0
    refused = run("score", path, whole, "--no-cache")
    assert refused.code == 2
    assert "2 columns without names" in refused.err


REFUSED = {
    "no such file": ("fit", "nothing.csv", "-k", 2),
    "no such column": ("fit", PENGUINS, "-k", 2, "-c", "wings"),
    "text": ("fit", PENGUINS, "-k", 2),
    "missing": ("fit", PENGUINS, "-k", 2, "-c", "bill_len"),
    "what is missing": ("fit", PENGUINS, "-k", 2, "-c", "bill_len", "--missing", "drop"),
    "K": ("fit", PENGUINS, "-k", "two"),
    "K of nothing": ("fit", PENGUINS, "-k", "3:1"),
    "no K": ("fit", PENGUINS),
    "an option": ("fit", PENGUINS, "-k", 2, "--wings"),
    "a number": ("fit", PENGUINS, "-k", 2, "--seed", "x"),
    "a command": ("fitt", PENGUINS),
    "family": ("fit", PENGUINS, "-k", 2, "-c", "year", "--family", "gausian"),
    "law": ("fit", PENGUINS, "-k", 2, "--family", "year=gausian"),
    "structure": ("fit", PENGUINS, "-k", 2, "-c", "year", "--covariance", "round"),
    "family's option": ("fit", PENGUINS, "-k", 2, "-c", "year", "--option", "degrees=3"),
    "criterion": ("select", PENGUINS, "-c", "year", "--criterion", "best"),
    "epsilon": ("fit", PENGUINS, "-k", 2, "-c", "year", "--epsilon", "-1"),
    "coupling": ("fit", PENGUINS, "-k", 2, "-c", "year", "--coupling", "tight"),
    "strength": ("fit", PENGUINS, "-k", 2, "-c", "year", "--coupling", "penalized"),
    "sizes": ("fit", PENGUINS, "-k", 2, "-c", "year", "--sizes", "a,b"),
    "folder": ("fit", PENGUINS, "-k", 2, "-c", "year", "-o", "/no/such/folder/m.npz"),
    "weights": ("fit", PENGUINS, "-k", 2, "-c", "year", "--weights", "species"),
    "two on stdout": ("fit", PENGUINS, "-k", 2, "-c", "year", "-o", "-", "--json"),
    "format": ("fit", PENGUINS, "-k", 2, "--format", "xlsx"),
    "no table": ("fit", PENGUINS, "-k", 2, "--format", "parquet"),
    "no model": ("info", PENGUINS),
    "one stdin": ("predict", "-", "-"),
    "a picture": ("plot", PENGUINS, "--kind", "portrait"),
    "rows of a picture": ("plot", PENGUINS),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line_with_a_remedy(run, name):
    ran = run(*REFUSED[name])
    assert ran.code == 2
    assert ran.out == b""
    assert ran.err.startswith("otmix-jax: "), ran.err
    assert ran.err.count("\n") == 1, ran.err
    assert not any(word in ran.err for word in ("Traceback", "n_components", "missing="))


def test_exit_codes_of_answers(run, whole, tmp_path):
    asked = ("-k", 2, "-c", ",".join(BILL), *ONE_START)
    path = tmp_path / "early.npz"
    early = run("fit", whole, *asked, "--max-steps", 2, "-o", path, "-q")
    assert early.code == 3
    assert early.out == b""
    assert early.err.startswith("otmix-jax: warning: MAX_STEPS")
    assert early.err.count("\n") == 1
    assert om.Status(int(om.load(path).status)).name == "MAX_STEPS"
    # two points and two components, without a floor: nothing regular is left
    two = tmp_path / "two.csv"
    two.write_text("a,b\n0,0\n0,0\n1,1\n1,1\n")
    failed = run("fit", two, "-k", 2, "--ridge", 0, *ONE_START, "-o", tmp_path / "none.npz")
    assert failed.code == 1, failed.err
    assert failed.err.count("\n") == 1, failed.err
    assert not (tmp_path / "none.npz").exists()


def test_summaries_on_the_terminal(run, whole, model):
    asked = ("-k", 2, "-c", ",".join(BILL), "--labels", "species", *ONE_START)
    shown = run("fit", whole, *asked).out.decode()
    assert "mean[bill_len]" in shown
    assert "adjusted Rand index" in shown
    assert "Chinstrap" in shown
    assert "BIC" in run("score", model, whole, "--no-cache").out.decode()
    assert "size of the plan" in run("plan", model, whole, "--no-cache").out.decode()
    assert "mean[bill_dep]" in run("info", model).out.decode()
    assert run("--version").out.decode() == f"otmix-jax {om.__version__}\n"
    assert "adjusted Rand" in run("predict", model, whole, "--labels", "species", "--no-cache").err


PICTURES = {
    "mixture": ("rows", "--columns", "bill_len"),
    "density": (),
    "uncertainty": ("rows",),
    "flows": ("rows", "--labels", "species"),
    "heat-map": ("rows",),
    "convergence": (),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_plot(run, whole, model, kind, tmp_path):
    path = tmp_path / "picture.svg"
    extra = [whole if word == "rows" else word for word in PICTURES[kind]]
    ran = run("plot", model, *extra, "--kind", kind, "-o", path, "--no-cache")
    assert ran.code == 0, ran.err
    assert b"<svg" in path.read_bytes()


def test_plot_refuses(run, whole, model, tmp_path):
    for told in (("--kind", "criterion"), ("--columns", "wings"), ("-o", "picture.doc")):
        ran = run("plot", model, whole, *told, "--no-cache")
        assert ran.code == 2, ran.err
        assert ran.err.count("\n") == 1, ran.err


@pytest.mark.slow
def test_bench(run):
    shape = ("-n", 300, "-d", 2, "-k", 2, "--json", "--no-cache")
    found = run("bench", *shape, "--n-init", 1).json
    assert found["em_step_seconds"] > 0
    assert found["fit_seconds"] <= found["fit_first_call_seconds"]


@pytest.mark.slow
def test_demo(run, tmp_path):
    picture = tmp_path / "demo.png"
    ran = run("demo", "-o", picture, "--no-cache")
    assert ran.code == 0
    assert ran.out.count(b"-1126.3159") == 3
    assert picture.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("seed", range(3))
def test_adjusted_rand_index_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    labels, component = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    found = reports.agreement(labels.astype(str).astype(object), component)
    assert found["adjusted_rand_index"] == pytest.approx(
        adjusted_rand_score(labels, component), abs=1e-12
    )
    same = reports.agreement(np.array(["a", "a", None], object), np.array([1, 1, 0]))
    assert same["adjusted_rand_index"] == 1
    assert same["rows"] == 2


# As a shell sees it.

# a parent in the background of a shell would leave Ctrl-C ignored
SCRIPT = """
import signal
from otmix_jax.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.fixture(scope="module")
def shell():
    """A process of its own; all share the suite's cache of compiled programs."""
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    env = os.environ | {"OTMIX_JAX_CACHE": folder}
    env.pop("PYTHONWARNINGS", None)

    def start(*arguments, **options):
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": env} | options
        return subprocess.Popen([sys.executable, "-c", SCRIPT, *map(str, arguments)], **told)

    return start


def test_a_pipe_from_fit_to_predict(shell, whole):
    asked = ("-k", 2, "-c", ",".join(BILL), "--n-init", 1)
    with open(whole, "rb") as rows:
        fitted = shell("fit", "-", *asked, "-o", "-", stdin=rows)
    predicted = shell("predict", "-", whole, stdin=fitted.stdout)
    fitted.stdout.close()
    out, err = predicted.communicate()
    assert predicted.returncode == 0
    assert err == b""
    # the summary stands aside where standard output is a file's; no progress in a pipe
    shown = fitted.communicate()[1].decode()
    assert fitted.returncode == 0
    assert "CONVERGED" in shown
    assert "\x1b" not in shown
    x = pandas.read_csv(whole)[BILL].to_numpy()
    expected = om.fit(x, 2, key=0, covariance="full", starts=om.Starts(n_init=1)).mixture.predict(x)
    assert np.array_equal(pandas.read_csv(io.BytesIO(out))["component"], expected)


def test_a_reader_that_goes_away(shell, model):
    process = shell("sample", model, "-n", 200_000)
    assert process.stdout.readline() == b"bill_len,bill_dep\n"
    process.stdout.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait() == 141


def test_ctrl_c_saves_the_best_so_far(shell, tmp_path):
    rows, path = tmp_path / "rows.npy", tmp_path / "best.npz"
    np.save(rows, np.random.default_rng(0).normal(size=(20_000, 3)))
    endless = ("--n-init", 1, "--tolerance", 1e-300, "--max-steps", 10**8)
    for patience in (4, 16, 64):
        process = shell("fit", rows, "-k", 6, *endless, "-o", path, "--json")
        time.sleep(patience)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 130, err
        if out:
            break
        # a machine so slow that nothing had begun
        assert err == b"otmix-jax: interrupted before there was an answer: nothing was written\n"
        assert not path.exists()
    assert json.loads(out)["status"] == "INTERRUPTED"
    assert err.startswith(b"otmix-jax: warning: INTERRUPTED")
    assert err.count(b"\n") == 1
    saved = om.load(path)
    assert om.Status(int(saved.status)).name == "INTERRUPTED"
    value = -np.mean(saved.mixture.log_prob(np.load(rows)))
    assert float(saved.value) == pytest.approx(float(value), rel=1e-9)


def test_help_needs_no_jax(shell):
    code = (
        "import sys; sys.argv = ['otmix-jax', 'fit', '--help']\n"
        "from otmix_jax.cli.main import main\n"
        "try: main()\n"
        "finally: print('jax' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "False False\n"
    assert "--components" in done.stdout
    assert "--family" in done.stdout


def test_progress_is_for_terminals(shell, whole):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    asked = ("-k", 2, "-c", ",".join(BILL), "--n-init", 1)
    process = shell("fit", whole, *asked, "--json", stderr=theirs)
    os.close(theirs)
    with process.stdout as stream:
        out = stream.read()
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # the terminal's end
        pass
    os.close(ours)
    assert process.wait() == 0
    assert json.loads(out)["status"] == "CONVERGED"
    assert b"steps" in shown
    assert b"nats per row" in shown
    assert b"left" in shown


def test_the_cache_is_on_and_can_be_moved(shell, whole, tmp_path):
    folder = tmp_path / "programs"
    asked = ("-k", 2, "-c", ",".join(BILL), "--n-init", 1, "-q")
    first = shell("fit", whole, *asked, "--cache", folder)
    assert first.communicate() == (b"", b"")
    assert first.returncode == 0
    kept = {
        path.name: path.stat().st_mtime_ns for path in folder.iterdir() if "-cache" in path.name
    }
    assert kept
    second = shell("fit", whole, *asked, "--cache", folder)
    assert second.communicate() == (b"", b"")
    assert second.returncode == 0
    again = {path.name for path in folder.iterdir() if "-cache" in path.name}
    assert again == set(kept), "the second command compiled something"


def test_csv_keeps_all_digits(run, model):
    text = run("sample", model, "-n", 5, "--no-cache").out.decode()
    rows = list(csv.reader(io.StringIO(text)))[1:]
    expected = np.asarray(om.load(model).mixture.sample(jax.random.key(0), 5))
    assert np.array_equal(np.array(rows, float), expected)
