"""Mixtures to and from other packages, each of which is imported when it is asked for."""

from .distributions import to_distrax as to_distrax
from .distributions import to_numpyro as to_numpyro
from .distributions import to_tfp as to_tfp
from .gaussians import from_ott as from_ott
from .gaussians import from_sklearn as from_sklearn
from .gaussians import to_ott as to_ott
from .gaussians import to_sklearn as to_sklearn
