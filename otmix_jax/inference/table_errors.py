"""Standard errors of the parameters as tables show them."""

from typing import Any

from ..core.compiling import Quick
from ..core.registry import remember
from ..model.parameters import values
from ..model.summaries import ERRORS
from .covariance import ParameterCovariance, parameter_covariance


def errors_of_values(solution: Any, x: Any, sample_weight: Any) -> list[Any]:
    """Standard errors of the arrays of `model.parameters.values`, by the delta method."""
    covariance = parameter_covariance(
        solution.mixture, x, sample_weight, learn_weights=solution.learns_weights
    )
    return _in_shape(covariance.is_small, covariance.without_rows())


def _errors(covariance: ParameterCovariance) -> list[Any]:
    return covariance.delta(values).standard_error


_in_shape = Quick(_errors, level=0)
remember(ERRORS, errors_of_values)
