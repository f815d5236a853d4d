"""Plans, potentials and divergences of entropic transport between rows and components."""

from .rows import kl_divergence as kl_divergence
from .rows import row_softmax as row_softmax
