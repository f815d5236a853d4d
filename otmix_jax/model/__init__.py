"""A mixture, the problem it answers, the objective in between, and what a run returns."""

from .certificates import Certificate as Certificate
from .certificates import certificate as certificate
from .certificates import plan as plan
from .explanations import Explanation as Explanation
from .explanations import explain as explain
from .likelihood import negative_log_likelihood as negative_log_likelihood
from .mixtures import Mixture as Mixture
from .modes import Modes as Modes
from .problems import Evaluation as Evaluation
from .problems import Objective as Objective
from .problems import Problem as Problem
from .solutions import RunCertificate as RunCertificate
from .solutions import Solution as Solution
from .summaries import Summary as Summary
