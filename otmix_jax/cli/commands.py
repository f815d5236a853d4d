"""The commands and their options; what they do is loaded when one runs."""

import importlib
import os
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from typer import Option

from .._version import __version__
from . import options as o
from .errors import Exit, Interrupted

app = typer.Typer(
    name="otmix-jax",
    help="Mixture models as optimal transport: fit, choose, use and draw them.",
    epilog=(
        "Exit codes: 0 done; 1 no answer; 2 bad usage or input; 3 an answer that is not CONVERGED; "
        "130 Ctrl-C, the best so far is written; 141 the reader of a pipe went away."
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _run(work: str, given: dict[str, Any]) -> int:
    """Calls `work`, "module.function", which loads JAX."""
    module, function = work.split(".")
    try:
        found = importlib.import_module(f"{__package__}.{module}")
        code = getattr(found, function)(SimpleNamespace(**given))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # what is left has no reader, and must not be tried again at the end; the parser would take
        # this for a failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.CLOSED
    except KeyboardInterrupt:  # which the parser would not tell from an answer's 130
        raise Interrupted from None


def _version_and_exit(asked: bool) -> None:
    if asked:
        print(f"otmix-jax {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, Option("--version", callback=_version_and_exit, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    del version


def _fitting(work: str, n_components: Any) -> Callable[..., int]:
    """The command that fits, with one K or all of a range: the options are the same."""

    def command(
        data: o.Data,
        components: o.Components = n_components,
        columns: o.Columns = None,
        family: o.Family = None,
        covariance: o.CovarianceChoice = None,
        option: o.FamilyOption = None,
        formula: o.Formula = None,
        criterion: o.Criterion = "bic",
        weights: o.Weights = None,
        labels: o.Labels = None,
        groups: o.Groups = None,
        missing: o.Missing = None,
        seed: o.Seed = 0,
        n_init: o.NInit = None,
        initial: o.Initial = None,
        max_steps: o.MaxSteps = None,
        tolerance: o.Tolerance = None,
        time_limit: o.TimeLimit = None,
        ridge: o.Ridge = None,
        epsilon: o.Epsilon = None,
        coupling: o.CouplingName = None,
        rho: o.Rho = None,
        sizes: o.Sizes = None,
        output: o.Output = None,
        assignments: o.Assignments = None,
        format: o.Format = None,
        json: o.Json = False,
        quiet: o.Quiet = False,
        cache: o.Cache = None,
        no_cache: o.NoCache = False,
    ) -> int:
        return _run(work, {k: v for k, v in locals().items() if k != "work"})

    return command


app.command("fit", help="Fit a mixture; of a range of K, the best by a criterion.")(
    _fitting("fits.fit", ...)
)
app.command("select", help="Fit every K of every covariance structure, and rank them.")(
    _fitting("fits.select", "1:10")
)


@app.command()
def predict(
    model: o.Model,
    data: o.Data,
    probabilities: Annotated[
        bool, Option("--probabilities", "-p", help="Also a column for each component.")
    ] = False,
    labels: o.Labels = None,
    output: o.Output = "-",
    format: o.Format = None,
    json: o.Json = False,
    cache: o.Cache = None,
    no_cache: o.NoCache = False,
) -> int:
    """The most probable component of each row."""
    return _run("uses.predict", locals())


@app.command()
def score(
    model: o.Model,
    data: o.Data,
    weights: o.Weights = None,
    output: Annotated[
        str | None, Option("--output", "-o", help="Log-density of each row, as a table.")
    ] = None,
    format: o.Format = None,
    json: o.Json = False,
    cache: o.Cache = None,
    no_cache: o.NoCache = False,
) -> int:
    """Log-likelihood of rows under a model, AIC and BIC."""
    return _run("uses.score", locals())


@app.command()
def sample(
    model: o.Model,
    rows: Annotated[int, Option("--rows", "-n", help="How many.", min=1)] = 10,
    components: Annotated[bool, Option("--components", help="Also whose each is.")] = False,
    seed: o.Seed = 0,
    output: o.Output = "-",
    format: o.Format = None,
    json: o.Json = False,
    cache: o.Cache = None,
    no_cache: o.NoCache = False,
) -> int:
    """Draw rows from a model."""
    return _run("uses.sample", locals())


@app.command()
def plan(
    model: o.Model,
    data: o.Data,
    weights: o.Weights = None,
    epsilon: o.Epsilon = None,
    coupling: o.CouplingName = None,
    rho: o.Rho = None,
    sizes: o.Sizes = None,
    output: o.Output = None,
    format: o.Format = None,
    json: o.Json = False,
    cache: o.Cache = None,
    no_cache: o.NoCache = False,
) -> int:
    """The transport plan between rows and components; a summary, or all of it with --output."""
    return _run("uses.plan", locals())


@app.command()
def plot(
    model: o.Model,
    data: Annotated[
        str | None,
        typer.Argument(metavar="[DATA]", help="Rows; not for criterion and convergence."),
    ] = None,
    kind: Annotated[
        str,
        Option(
            "--kind",
            help="mixture, density, uncertainty, flows, heat-map; criterion, convergence.",
        ),
    ] = "mixture",
    labels: Annotated[
        str | None, Option("--labels", help="Of flows: the column that groups the rows.")
    ] = None,
    columns: Annotated[
        str | None, Option("--columns", "-c", help="Of the model's, those to draw.")
    ] = None,
    output: Annotated[
        str, Option("--output", "-o", help="PNG, SVG or PDF, by the suffix.")
    ] = "mixture.png",
    format: o.Format = None,
    cache: o.Cache = None,
    no_cache: o.NoCache = False,
) -> int:
    """Draw a model."""
    return _run("pictures.plot", locals())


@app.command()
def info(model: o.Model, json: o.Json = False) -> int:
    """What a file holds."""
    return _run("uses.info", {**locals(), "cache": None, "no_cache": True})


@app.command()
def demo(
    output: Annotated[str, Option("--output", "-o", help="Of the picture.")] = "demo.png",
    cache: o.Cache = None,
    no_cache: o.NoCache = False,
) -> int:
    """Fit Old Faithful by EM and by gradient, check the identities, draw it."""
    return _run("trials.demo", locals())


@app.command()
def bench(
    rows: Annotated[int, Option("--rows", "-n", min=2)] = 100_000,
    features: Annotated[int, Option("--features", "-d", min=1)] = 8,
    components: Annotated[int, Option("--components", "-k", min=1)] = 8,
    covariance: Annotated[str, Option("--covariance", help="One structure.")] = "full",
    n_init: o.NInit = None,
    float32: Annotated[bool, Option("--float32", help="In single precision.")] = False,
    seed: o.Seed = 0,
    json: o.Json = False,
    cache: o.Cache = None,
    no_cache: o.NoCache = False,
) -> int:
    """Time a step of EM and a whole fit, of rows that are drawn here."""
    return _run("trials.bench", locals())
