"""What knows nothing of mixtures: trees, arithmetic, factors, the row softmax, how a run ended."""

from .cache import from_environment as _cache_from_environment

# all else loads this room first
_cache_from_environment()
