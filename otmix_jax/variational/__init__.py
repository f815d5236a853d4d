"""Variational mixtures: posteriors for proportions and parameters."""

from .belief import Belief as Belief
from .belief import Bound as Bound
from .counted import BetaPrior as BetaPrior
from .counted import BetaProbabilities as BetaProbabilities
from .counted import DirichletLevels as DirichletLevels
from .counted import GammaPrior as GammaPrior
from .counted import GammaRates as GammaRates
from .counted import LevelsPrior as LevelsPrior
from .descent import VariationalEM as VariationalEM
from .fit import fit_variational as fit_variational
from .law import ConjugateLaw as ConjugateLaw
from .law import ConjugatePrior as ConjugatePrior
from .normal_wishart import NormalWishart as NormalWishart
from .normal_wishart import NormalWishartPrior as NormalWishartPrior
from .normal_wishart import scikit_learn_bound as scikit_learn_bound
from .proportions import DirichletPrior as DirichletPrior
from .proportions import DirichletWeights as DirichletWeights
from .proportions import ProportionsLaw as ProportionsLaw
from .proportions import StickBreaking as StickBreaking
from .proportions import StickBreakingPrior as StickBreakingPrior
from .solution import VariationalSolution as VariationalSolution
from .solving import solve as solve
