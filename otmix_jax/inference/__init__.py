"""Inference: how sure the data make us of an answer."""

from .covariance import Estimate as Estimate
from .covariance import ParameterCovariance as ParameterCovariance
from .covariance import parameter_covariance as parameter_covariance
from .ellipses import Ellipses as Ellipses
from .ellipses import confidence_ellipses as confidence_ellipses
from .errors import StandardErrors as StandardErrors
from .errors import standard_errors as standard_errors
from .replications import parametric_bootstrap as parametric_bootstrap
from .row_scores import scores as scores
