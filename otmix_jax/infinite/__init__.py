"""Mixtures with a fixed or infinite dictionary of components: proportions alone."""

from .dictionary import Dictionary as Dictionary
from .fixed import Proportions as Proportions
from .fixed import proportions as proportions
from .nonparametric import InfiniteMixture as InfiniteMixture
from .nonparametric import SupremumCertificate as SupremumCertificate
from .nonparametric import npmle as npmle
from .posterior import Posterior as Posterior
from .weights import Weights as Weights
from .weights import optimal_weights as optimal_weights
from .weights import weigh as weigh
