"""Component families: what a mixture is a mixture of."""

from ..core.tree import parameter as parameter
from ..core.tree import pytree as pytree
from . import geometry as geometry
from .binomial import Bernoulli as Bernoulli
from .binomial import Binomial as Binomial
from .binomial import Geometric as Geometric
from .bounded import Beta as Beta
from .bounded import Dirichlet as Dirichlet
from .categorical import Categorical as Categorical
from .conjugate import conjugate_prior as conjugate_prior
from .coordinates import FACTOR as FACTOR
from .coordinates import NESTED as NESTED
from .coordinates import POSITIVE as POSITIVE
from .coordinates import REAL as REAL
from .coordinates import SIMPLEX as SIMPLEX
from .coordinates import SPHERE as SPHERE
from .coordinates import UNIT as UNIT
from .coordinates import Affine as Affine
from .coordinates import Domain as Domain
from .coordinates import Frame as Frame
from .coordinates import Identity as Identity
from .coordinates import Parts as Parts
from .covariance import EEI as EEI
from .covariance import EEV as EEV
from .covariance import EII as EII
from .covariance import EVE as EVE
from .covariance import EVI as EVI
from .covariance import EVV as EVV
from .covariance import STRUCTURES as STRUCTURES
from .covariance import VEE as VEE
from .covariance import VEI as VEI
from .covariance import VEV as VEV
from .covariance import VVE as VVE
from .covariance import Covariance as Covariance
from .covariance import Diagonal as Diagonal
from .covariance import Full as Full
from .covariance import Spherical as Spherical
from .covariance import Tied as Tied
from .custom import FromLogProb as FromLogProb
from .custom import from_log_prob as from_log_prob
from .elliptical import Elliptical as Elliptical
from .elliptical import Gaussian as Gaussian
from .factor_analyzers import FactorAnalyzers as FactorAnalyzers
from .family import FAMILIES as FAMILIES
from .family import Description as Description
from .family import Family as Family
from .family import describe as describe
from .fixed import Point as Point
from .fixed import Uniform as Uniform
from .forms import LinearForm as LinearForm
from .forms import LocationForm as LocationForm
from .frozen import Frozen as Frozen
from .gated import Gated as Gated
from .incomplete import Incomplete as Incomplete
from .independent import Independent as Independent
from .log_scale import LogNormal as LogNormal
from .log_scale import Weibull as Weibull
from .multinomial import Multinomial as Multinomial
from .negative_binomial import NegativeBinomial as NegativeBinomial
from .noisy import Noisy as Noisy
from .one_of import OneOf as OneOf
from .poisson import Poisson as Poisson
from .positive import Exponential as Exponential
from .positive import Gamma as Gamma
from .positive import InverseGaussian as InverseGaussian
from .product import Product as Product
from .repeated import Repeated as Repeated
from .repeated import Units as Units
from .responses import BinomialRegression as BinomialRegression
from .responses import GammaRegression as GammaRegression
from .responses import LinearRegression as LinearRegression
from .responses import NegativeBinomialRegression as NegativeBinomialRegression
from .responses import PoissonRegression as PoissonRegression
from .responses import TiedLinearRegression as TiedLinearRegression
from .student_t import LearnedStudentT as LearnedStudentT
from .student_t import SharedStudentT as SharedStudentT
from .student_t import StudentT as StudentT
from .subspace import Subspace as Subspace
from .von_mises import VonMises as VonMises
from .von_mises_fisher import CommonVonMisesFisher as CommonVonMisesFisher
from .von_mises_fisher import VonMisesFisher as VonMisesFisher
from .zero_inflated import ZeroInflated as ZeroInflated

FAMILIES.update(gaussian=Gaussian, student_t=StudentT, poisson=Poisson, categorical=Categorical)
FAMILIES.update(factor_analyzers=FactorAnalyzers)
FAMILIES.update(bernoulli=Bernoulli, binomial=Binomial, geometric=Geometric)
FAMILIES.update(negative_binomial=NegativeBinomial, multinomial=Multinomial)
FAMILIES.update(noisy=Noisy)
FAMILIES.update(incomplete=Incomplete, uniform=Uniform, point=Point, zero_inflated=ZeroInflated)
FAMILIES.update(
    linear_regression=LinearRegression,
    tied_linear_regression=TiedLinearRegression,
    poisson_regression=PoissonRegression,
    binomial_regression=BinomialRegression,
    negative_binomial_regression=NegativeBinomialRegression,
    gamma_regression=GammaRegression,
)
FAMILIES.update(exponential=Exponential, gamma=Gamma, inverse_gaussian=InverseGaussian)
FAMILIES.update(log_normal=LogNormal, weibull=Weibull, beta=Beta, dirichlet=Dirichlet)
FAMILIES.update(von_mises=VonMises, von_mises_fisher=VonMisesFisher)
