"""Estimators for scikit-learn: its mixtures under their own names, and those it does not have."""

from .balanced import BalancedMixture as BalancedMixture
from .bayesian import BayesianGaussianMixture as BayesianGaussianMixture
from .gaussian import GaussianMixture as GaussianMixture
from .models import MixtureModel as MixtureModel
