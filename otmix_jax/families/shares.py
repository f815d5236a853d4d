"""How components share the rows between them, where that is not by proportions alone."""

from typing import Any, ClassVar

from jax import Array
from jaxtyping import Float, PyTree


class Shares:
    """By default components are of one kind, and only a mixture knows their proportions."""

    exchangeable: ClassVar[bool] = True
    """Whether components are of one kind, each for itself: then some may be absent in a program,
    and any order of them is the same mixture."""
    gated: ClassVar[bool] = False
    """Whether the cost has the proportions in it: those of the mixture are all alike, and held."""

    def log_proportions(
        self, log_weights: Float[Array, " k"], given: PyTree
    ) -> Float[Array, "*n k"]:
        """The logarithms of the proportions of rows of which `given` is known."""
        del given
        return log_weights

    @classmethod
    def seats(cls, n_components: int, *_: Any, **options: Any) -> list[int]:
        """The components that a start assigns rows to; others get a small share of every row."""
        del options
        return list(range(n_components))
