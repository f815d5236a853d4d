"""Component families: what a mixture is a mixture of."""

from ..core.tree import parameter as parameter
from ..core.tree import pytree as pytree
from . import geometry as geometry
from .categorical import Categorical as Categorical
from .coordinates import FACTOR as FACTOR
from .coordinates import NESTED as NESTED
from .coordinates import POSITIVE as POSITIVE
from .coordinates import REAL as REAL
from .coordinates import SIMPLEX as SIMPLEX
from .coordinates import SPHERE as SPHERE
from .coordinates import Affine as Affine
from .coordinates import Domain as Domain
from .coordinates import Frame as Frame
from .coordinates import Identity as Identity
from .coordinates import Parts as Parts
from .covariance import STRUCTURES as STRUCTURES
from .covariance import Covariance as Covariance
from .covariance import Diagonal as Diagonal
from .covariance import Full as Full
from .covariance import Spherical as Spherical
from .covariance import Tied as Tied
from .elliptical import Elliptical as Elliptical
from .elliptical import Gaussian as Gaussian
from .family import FAMILIES as FAMILIES
from .family import Description as Description
from .family import Family as Family
from .family import describe as describe
from .forms import LinearForm as LinearForm
from .forms import LocationForm as LocationForm
from .frozen import Frozen as Frozen
from .independent import Independent as Independent
from .poisson import Poisson as Poisson
from .product import Product as Product
from .student_t import StudentT as StudentT
from .subspace import Subspace as Subspace

FAMILIES.update(gaussian=Gaussian, student_t=StudentT, poisson=Poisson, categorical=Categorical)
