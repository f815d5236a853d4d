"""Inference: how sure the data make us of an answer."""

from . import table_errors as table_errors
from .coefficient_table import Coefficients as Coefficients
from .coefficient_table import coefficients as coefficients
from .comparison import Transported as Transported
from .comparison import match as match
from .comparison import wasserstein as wasserstein
from .covariance import Estimate as Estimate
from .covariance import ParameterCovariance as ParameterCovariance
from .covariance import parameter_covariance as parameter_covariance
from .ellipses import Ellipses as Ellipses
from .ellipses import confidence_ellipses as confidence_ellipses
from .errors import StandardErrors as StandardErrors
from .errors import standard_errors as standard_errors
from .merging import Merges as Merges
from .merging import merge as merge
from .predictions import predict_response as predict_response
from .ratios import RatioTest as RatioTest
from .ratios import bootstrap_lrt as bootstrap_lrt
from .replications import parametric_bootstrap as parametric_bootstrap
from .resampling import Bootstrap as Bootstrap
from .resampling import bootstrap as bootstrap
from .row_scores import scores as scores
