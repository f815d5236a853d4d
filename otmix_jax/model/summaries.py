"""A fit as statisticians expect it: criteria, how it ended, parameters with standard errors."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from ..core.display import escaped, law, page, status_line, table
from ..core.reading import numbers
from ..core.registry import find
from ..core.status import Status
from .mixtures import Mixture, rows_for
from .parameters import Line, data_frame, lines

MOST_PARAMETERS = 300
"""Up to so many there are standard errors without asking: the information is a square of them."""
SHOWN = 40
"""Lines of one component that are printed; `Summary.table` has all."""
ERRORS = "otmix_jax.inference:table_errors"
"""Who finds standard errors of `parameters.values`: by name, as that room stands above."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a fit says of itself; `print` it. NaN for what needs the rows, where none were given.

    Attributes:
        components: the family with its structure, K and d, in words.
        total_weight: of the rows: n without sample weights.
        log_likelihood: total, in nats.
        log_likelihood_per_row: its mean.
        n_parameters: that were learned.
        aic: -2 log-likelihood + 2 parameters; lower is better, here and below.
        bic: -2 log-likelihood + parameters log n; mclust prints its negative.
        icl: BIC - 2 sum_i w_i log max_j P(j | x_i).
        status: how the run ended.
        n_steps: steps taken.
        certificate: (name, number, meaning) of what the run says of its own end.
        lines: the parameters.
        standard_error: one for each line; NaN where there is none.
        notes: what to know when reading it.
    """

    components: str
    total_weight: float
    log_likelihood: float
    log_likelihood_per_row: float
    n_parameters: int
    aic: float
    bic: float
    icl: float
    status: Status
    n_steps: int
    certificate: tuple[tuple[str, float, str], ...]
    lines: tuple[Line, ...]
    standard_error: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def table(self) -> Any:
        """The parameters as a data frame of pandas, or polars where only that is installed."""
        return data_frame(
            {
                "component": [line.component for line in self.lines],
                "parameter": [line.name for line in self.lines],
                "estimate": [line.value for line in self.lines],
                "standard_error": list(self.standard_error),
            }
        )

    def _facts(self) -> list[tuple[str, str]]:
        criteria = [
            ("rows", "total_weight", "g"),
            ("log-likelihood", "log_likelihood", ".4f"),
            ("log-likelihood per row", "log_likelihood_per_row", ".6f"),
            ("parameters", "n_parameters", "d"),
            ("AIC", "aic", ".4f"),
            ("BIC", "bic", ".4f"),
            ("ICL", "icl", ".4f"),
        ]
        found = [(name, getattr(self, field), form) for name, field, form in criteria]
        facts = [(name, format(value, form)) for name, value, form in found if not np.isnan(value)]
        ended = f"{self.status.name} after {self.n_steps} steps"
        return [("components", self.components), *facts, ("status", ended)]

    def __str__(self) -> str:
        out = [f"{name:<22}  {value}" for name, value in self._facts()]
        if self.status.remedy:
            out.append(f"{'':<22}  {self.status.remedy}")
        out += ["", "certificate"]
        out += [f"  {name:<20}  {value:>11.4g}  {text}" for name, value, text in self.certificate]
        width = max(len(line.name) for line in self.lines)
        pairs = list(zip(self.lines, self.standard_error, strict=True))
        for component in dict.fromkeys(line.component for line in self.lines):
            own = [pair for pair in pairs if pair[0].component == component]
            title = "shared by all" if component < 0 else f"component {component}"
            out += ["", f"{title:<{width + 2}}  {'estimate':>12}  {'std. error':>12}"]
            for line, error in own[:SHOWN]:
                sure = "" if math.isnan(error) else f"{error:.4g}"
                out.append(f"  {line.name:<{width}}  {line.value:>12.6g}  {sure:>12}".rstrip())
            if len(own) > SHOWN:
                out.append(f"  and {len(own) - SHOWN} more, in summary.table")
        return "\n".join([*out, *(["", *self.notes] if self.notes else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        facts = table(["", ""], [list(map(escaped, fact)) for fact in self._facts()])
        proof = [[escaped(n), f"{v:.4g}", escaped(text)] for n, v, text in self.certificate]
        rows = [
            [
                "shared" if line.component < 0 else str(line.component),
                escaped(line.name),
                f"{line.value:.6g}",
                "" if math.isnan(error) else f"{error:.4g}",
            ]
            for line, error in zip(self.lines, self.standard_error, strict=True)
        ][: SHOWN * 5]
        head = ["component", "parameter", "estimate", "std. error"]
        return page(
            "Summary",
            status_line(int(self.status)),
            facts,
            table(["certificate", "", ""], proof),
            table(head, rows),
            *map(escaped, self.notes),
        )


def summarise(
    solution: Any,
    x: PyTree = None,
    sample_weight: Any = None,
    *,
    names: Sequence[str] = (),
    errors: bool | None = None,
) -> Summary:
    """See `Solution.summary`."""
    mixture, parameters = solution.mixture, solution.n_parameters
    named = tuple(map(str, names)) or _names_of(x)
    found = lines(mixture, named)
    mean = -float(solution.negative_log_likelihood)
    total = likelihood = aic = bic = icl = math.nan
    notes, sure = [], [math.nan] * len(found)
    if x is None:
        notes.append("AIC, BIC, ICL and standard errors need the rows: solution.summary(x)")
    else:
        x = rows_for(mixture, x, sample_weight)
        total, ours, overlap = _of_rows(mixture, x, sample_weight)
        _check_rows(ours, mean, solution.value.dtype)
        likelihood = total * mean
        aic = -2 * likelihood + 2 * parameters
        bic = -2 * likelihood + parameters * math.log(total)
        icl = bic - 2 * total * overlap
        why = _without_errors(solution, errors)
        if not why:
            arrays = find(ERRORS)(solution, x, sample_weight)
            sure = [float(np.asarray(arrays[one.parameter])[one.place]) for one in found]
            # what was held has an error of 0, and is no estimate
            sure = [error if error > 0 else math.nan for error in sure]
            if all(map(math.isnan, sure)):
                why = "none: the information is singular at this answer"
        notes += [f"standard errors: {why}"] if why else []
    return Summary(
        law(mixture.components), total, likelihood, mean, parameters, aic, bic, icl,
        Status(int(solution.status)), int(solution.n_steps), _certificate(solution.certificate),
        tuple(found), tuple(sure), tuple(notes),
    )  # fmt: skip


def _names_of(x: Any) -> tuple[str, ...]:
    """What the columns are called, where the rows say so."""
    named = getattr(x, "columns", None)
    found = getattr(x, "names", ()) if named is None else named
    return tuple(map(str, found))


def _of_rows(mixture: Mixture, x: PyTree, sample_weight: Any) -> tuple[float, float, float]:
    """The total weight, and the means of the log-density and of log max_j P(j | x)."""
    n = jax.tree.leaves(x)[0].shape[0]
    if sample_weight is None:
        weight = np.ones(n)
    else:
        weight = np.asarray(numbers(sample_weight, "sample_weight"), float)
    if weight.shape != (n,):
        raise ValueError(f"sample_weight has shape {weight.shape} for {n} rows")
    total = float(weight.sum())

    def mean(each: Array) -> float:
        # a row of weight 0 may hold anything
        held = np.where(weight > 0, np.asarray(each, float), 0)
        return float(weight @ held) / total

    share = jnp.max(mixture.responsibilities(x), axis=1)
    return total, mean(mixture.log_prob(x)), mean(jnp.log(share))


def _check_rows(found: float, said: float, dtype: Any) -> None:
    """Refuses rows that another answer was fitted to."""
    # sums in other orders differ by rounding, in float32 by that of many rows
    if abs(found - said) > 10 * float(jnp.finfo(dtype).eps) ** 0.5 * (1 + abs(said)):
        raise ValueError(
            f"these are not the rows that were fitted: their mean log-likelihood is {found:.6f}, "
            f"the solution's is {said:.6f}. Give the rows of the fit, with the same sample_weight"
        )


def _without_errors(solution: Any, errors: bool | None) -> str:
    """Why there are no standard errors; empty where there are."""
    status = Status(int(solution.status))
    value, own = float(solution.value), float(solution.negative_log_likelihood)
    if errors is False:
        return "not asked for"
    if not status.healthy:
        return f"none of an answer that is {status.name}"
    if abs(value - own) > 1e-5 * (1 + abs(own)):
        return "none: the answer is not of maximum likelihood (another epsilon, or sizes)"
    if errors is None and solution.n_parameters > MOST_PARAMETERS:
        return f"left out for {solution.n_parameters} parameters; errors=True takes the time"
    return ""


def _certificate(certificate: Any) -> tuple[tuple[str, float, str], ...]:
    """The numbers of a run's own certificate that there are, with what they mean."""
    meanings = {
        "weights_gap": "most that other proportions can win, in nats per row",
        "divergence": "at most the excess of the balanced value, in nats per row",
        "rate": "factor by which a step shrinks the error; near 1 is slow",
        "aitken_gap": "what further steps would win, estimated, in nats per row",
    }
    found = [(name, float(getattr(certificate, name)), text) for name, text in meanings.items()]
    return tuple(one for one in found if not math.isnan(one[1]))
