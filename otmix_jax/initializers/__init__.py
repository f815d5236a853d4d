"""Initialisers: where a run starts."""

from .assigned import from_labels as from_labels
from .assigned import from_responsibilities as from_responsibilities
from .seeds import kmeans as kmeans
from .seeds import kmeans_plus_plus as kmeans_plus_plus
from .seeds import random_rows as random_rows
