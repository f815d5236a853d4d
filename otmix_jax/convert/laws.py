"""Which distribution of numpyro and of TFP each family is: one table."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from .. import families as f


@dataclasses.dataclass(frozen=True)
class Law:
    """A distribution by name, and its arguments from K components.

    Attributes:
        name: of the class.
        arguments: components to keywords, each with a leading axis k.
        by_column: whether it is of one column, so that a row is independent ones.
    """

    name: str
    arguments: Callable[[Any], dict[str, Any]]
    by_column: bool = True


def _renamed(name: str, by_column: bool = True, **fields: str) -> Law:
    """A law whose arguments are a family's fields, under other names."""
    return Law(name, lambda c: {n: getattr(c, field) for n, field in fields.items()}, by_column)


def _normal(c: Any) -> dict[str, Any]:
    return {"loc": c.mean, "scale_tril": jnp.linalg.cholesky(c.matrices())}


def _student(c: Any) -> dict[str, Any]:
    return _normal(c) | {"df": jnp.broadcast_to(c.degrees, c.mean.shape[:-1])}


def _trials(c: Any) -> dict[str, Any]:
    return {"probs": c.probability, "total_count": jnp.full(c.probability.shape, c.trials)}


def _real_trials(c: Any) -> dict[str, Any]:
    return {"probs": c.probability, "total_count": jnp.full_like(c.probability, c.trials)}


def _odds(c: Any) -> dict[str, Any]:
    return {"total_count": c.dispersion, "probs": c.mean / (c.mean + c.dispersion)}


def _log_odds(c: Any) -> dict[str, Any]:
    return {"total_count": c.dispersion, "logits": jnp.log(c.mean) - jnp.log(c.dispersion)}


_GAUSSIAN = Law("MultivariateNormal", _normal, by_column=False)
_STUDENT = Law("MultivariateStudentT", _student, by_column=False)
_VMF = _renamed("VonMisesFisher", False, mean_direction="direction", concentration="concentration")
BOTH: dict[type, Law] = {
    f.Beta: _renamed("Beta", concentration1="alpha", concentration0="beta"),
    f.Categorical: _renamed("Categorical", probs="probability"),
    f.Dirichlet: _renamed("Dirichlet", False, concentration="concentration"),
    f.Exponential: _renamed("Exponential", rate="rate"),
    f.Gamma: _renamed("Gamma", concentration="shape", rate="rate"),
    f.LogNormal: _renamed("LogNormal", loc="location", scale="scale"),
    f.Poisson: _renamed("Poisson", rate="rate"),
    f.Uniform: _renamed("Uniform", low="low", high="high"),
    f.VonMises: _renamed("VonMises", loc="direction", concentration="concentration"),
    f.Weibull: _renamed("Weibull", concentration="shape", scale="scale"),
    f.Bernoulli: _renamed("Bernoulli", probs="probability"),
    f.Geometric: _renamed("Geometric", probs="probability"),
}
"""Under one name in both packages, with the same arguments."""
NUMPYRO = BOTH | {
    f.Binomial: Law("Binomial", _trials),
    f.Gaussian: _GAUSSIAN,
    f.Incomplete: _GAUSSIAN,
    f.StudentT: _STUDENT,
    f.LearnedStudentT: _STUDENT,
    f.SharedStudentT: _STUDENT,
    # by logits: the others lose half of their digits in numpyro
    f.NegativeBinomial: Law("NegativeBinomialLogits", _log_odds),
}
TFP = BOTH | {
    f.Binomial: Law("Binomial", _real_trials),
    f.Gaussian: dataclasses.replace(_GAUSSIAN, name="MultivariateNormalTriL"),
    f.Incomplete: dataclasses.replace(_GAUSSIAN, name="MultivariateNormalTriL"),
    f.InverseGaussian: _renamed("InverseGaussian", loc="mean", concentration="shape"),
    f.NegativeBinomial: Law("NegativeBinomial", _odds),
    f.VonMisesFisher: _VMF,
}


def unwrapped(components: Any) -> Any:
    """The family within `Frozen`, whose law is the same."""
    while type(components) is f.Frozen:
        components = components.inner
    return components


def law_of(components: Any, laws: dict[type, Law], package: str) -> Law:
    """The entry of a family.

    Raises:
        TypeError: for a family without one, and for sizes that stand in the rows.
    """
    # by exact type: a family that is derived from another has another law
    if type(components) not in laws:
        known = ", ".join(sorted(cls.__name__ for cls in laws))
        raise TypeError(
            f"{type(components).__name__} has no counterpart in {package}; these have: {known}"
        )
    if getattr(components, "by_cell", False):
        raise TypeError(
            f"the rows of this {type(components).__name__} hold sizes of their own, which no "
            f"distribution of {package} takes"
        )
    return laws[type(components)]
