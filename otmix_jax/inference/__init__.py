"""Inference: how sure the data make us of an answer."""

from .bootstrap import parametric_bootstrap as parametric_bootstrap
from .covariance import Estimate as Estimate
from .covariance import ParameterCovariance as ParameterCovariance
from .covariance import parameter_covariance as parameter_covariance
from .ellipses import Ellipses as Ellipses
from .ellipses import confidence_ellipses as confidence_ellipses
from .scores import scores as scores
from .standard_errors import StandardErrors as StandardErrors
from .standard_errors import standard_errors as standard_errors
