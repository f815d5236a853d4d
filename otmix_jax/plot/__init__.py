"""Pictures with matplotlib (`pip install "otmix_jax[plot]"`)."""

from .criterion import criterion as criterion
from .history import history as history
from .mixture import mixture as mixture
