"""How many components, and of which shape."""

from .choice import Candidate as Candidate
from .choice import Choice as Choice
from .select import select as select
