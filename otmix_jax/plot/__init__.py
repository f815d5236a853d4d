"""Pictures with matplotlib (`pip install "otmix_jax[plot]"`), loaded as `om.plot` when asked for.

Every function takes `axes=` and returns axes; none shows a figure or changes matplotlib's settings.
"""

try:
    import matplotlib as matplotlib
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'pictures need matplotlib: pip install "otmix_jax[plot]"', name="matplotlib"
    ) from error

from .canvas import COLOURS as COLOURS
from .criteria import criterion as criterion
from .curves import convergence as convergence
from .curves import history as history
from .influences import influence as influence
from .mixtures import density as density
from .mixtures import mixture as mixture
from .mixtures import uncertainty as uncertainty
from .paths import path as path
from .plans import flows as flows
from .plans import heat_map as heat_map
