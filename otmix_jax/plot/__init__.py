"""Pictures with matplotlib (`pip install "otmix_jax[plot]"`)."""

from .history import history as history
from .mixture import mixture as mixture
