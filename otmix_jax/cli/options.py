"""Options that several commands share."""

from typing import Annotated

from typer import Argument, Option

Data = Annotated[
    str, Argument(metavar="DATA", help="CSV, TSV, Parquet or NPY; - is standard input.")
]
Model = Annotated[
    str, Argument(metavar="MODEL", help="A file of `fit` or `select`, or of `save` in Python.")
]
Format = Annotated[
    str | None, Option("--format", help="csv, tsv, parquet or npy; else by the suffix.")
]
Columns = Annotated[
    str | None, Option("--columns", "-c", help="Columns to fit, a,b,c; of NPY 0,1,2.")
]
Components = Annotated[
    str, Option("--components", "-k", help="K, a range 1:6 (both ends), or 2,3,5.")
]
Family = Annotated[
    str | None,
    Option("--family", "-f", help="A name; 'a=gaussian,b+c=poisson'; or product: by kind."),
]
CovarianceChoice = Annotated[
    str | None,
    Option("--covariance", help="full, tied, diagonal, spherical, VVI, ...; or several."),
]
FamilyOption = Annotated[
    list[str] | None, Option("--option", help="Of the family, such as degrees=learn.")
]
Formula = Annotated[str | None, Option("--formula", help="Of a regression: 'y ~ a + log(b)'.")]
Criterion = Annotated[str, Option("--criterion", help="bic, aic, icl or cross_validation.")]
Weights = Annotated[str | None, Option("--weights", help="Column of row weights >= 0.")]
Labels = Annotated[
    str | None, Option("--labels", help="Column of known classes: compared with, never fitted.")
]
Groups = Annotated[
    str | None, Option("--groups", help="Column of units, whose rows share a component.")
]
Missing = Annotated[str | None, Option("--missing", help="ignore: integrate missing cells out.")]
Seed = Annotated[int, Option("--seed", help="Of all that is drawn.")]
NInit = Annotated[int | None, Option("--n-init", help="Starts, each to its end; else a race.")]
Initial = Annotated[
    str | None, Option("--initial", help="A model to start from, such as one that was stopped.")
]
MaxSteps = Annotated[int | None, Option("--max-steps", help="Steps at most.")]
Tolerance = Annotated[float | None, Option("--tolerance", help="Nats per row to stop at.")]
TimeLimit = Annotated[float | None, Option("--time-limit", help="Seconds; then the best so far.")]
Ridge = Annotated[float | None, Option("--ridge", help="Weak prior on covariances, 1e-3 say.")]
Epsilon = Annotated[float | None, Option("--epsilon", help="Entropy; 1 is EM, 0 hard labels.")]
Rho = Annotated[float | None, Option("--rho", help="How strongly sizes are prescribed: 0 to inf.")]
Sizes = Annotated[
    str | None, Option("--sizes", help="Prescribed sizes, 0.2,0.8; else the proportions.")
]
CouplingName = Annotated[
    str | None, Option("--coupling", help="semi-relaxed, balanced, or penalized with --rho.")
]
Output = Annotated[str | None, Option("--output", "-o", help="Where to write; - is stdout.")]
Assignments = Annotated[
    str | None, Option("--assignments", "-a", help="Component of each row, as a table.")
]
Json = Annotated[bool, Option("--json", help="One JSON document on stdout, all digits.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="No progress, no table.")]
Cache = Annotated[
    str | None, Option("--cache", help="Folder of compiled programs; else the user's cache.")
]
NoCache = Annotated[bool, Option("--no-cache", help="Keep no compiled program.")]
