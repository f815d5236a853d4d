"""Entropic transport between rows and columns: couplings, plans, values. It knows no mixture."""

from ..core.numerics import kl_divergence as kl_divergence
from ..core.numerics import row_softmax as row_softmax
from . import couplings as couplings
from .newton import Inner as Inner
from .newton import Potential as Potential
from .newton import proportions_rate as proportions_rate
from .plans import Plan as Plan
from .values import coupled_value as coupled_value
from .values import entropic_ot_value as entropic_ot_value
from .values import potential as potential
from .values import primal_value as primal_value
from .values import semi_relaxed_value as semi_relaxed_value
