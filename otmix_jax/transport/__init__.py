"""Entropic transport between rows and components: couplings, plans, values, certificates."""

from .._rows import kl_divergence as kl_divergence
from .._rows import row_softmax as row_softmax
from . import couplings as couplings
from .certificate import Certificate as Certificate
from .certificate import certificate as certificate
from .certificate import proportions_rate as proportions_rate
from .plan import Plan as Plan
from .plan import plan as plan
from .potential import Inner as Inner
from .potential import Potential as Potential
from .values import coupled_value as coupled_value
from .values import entropic_ot_value as entropic_ot_value
from .values import potential as potential
from .values import primal_value as primal_value
from .values import semi_relaxed_value as semi_relaxed_value
