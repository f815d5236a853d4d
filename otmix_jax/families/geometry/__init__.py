"""Five ways in which a factor L acts, and what a pass over rows needs of each.

A covariance structure has a factor with Sigma = L L^T in one of these layouts, and says how its own
parameters make it; what kernels and families ask of the factor is answered here, so that another
structure over the same layout brings none of it again.

| module | factor | second moments | features of a row |
|---|---|---|---|
| `free` | [k, d, d] lower | [k, d, d] | d (d + 1) / 2 products |
| `pooled` | [d, d] lower, shared | [d, d] | none: the square is the same for all components |
| `axes` | [k, d] | [k, d] | d squares |
| `shared_axes` | [d] or [1], shared | [d] | none, as `pooled` |
| `isotropic` | [k] | [k] | one, the squared length |
"""

from . import axes as axes
from . import free as free
from . import isotropic as isotropic
from . import pooled as pooled
from . import shared_axes as shared_axes
