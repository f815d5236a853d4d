"""Pictures with matplotlib (`pip install "otmix_jax[plot]"`)."""

from .criteria import criterion as criterion
from .curves import history as history
from .mixtures import mixture as mixture
