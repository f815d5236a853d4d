"""Names for what public functions take."""

import numpy as np
from jax import Array

AnyArray = Array | np.ndarray
"""A JAX array, or a NumPy one that JAX will take over."""
