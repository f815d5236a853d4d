"""The parameters of a mixture as people read them: by name, by component, line by line."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ..core.compiling import is_traced
from ..families.family import Family


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One array of parameters.

    Attributes:
        name: such as "mean", or "size.mean" of a product's part.
        value: [m, ...] of m components; without that axis where all components share it.
        components: which they are; empty where all share it.
    """

    name: str
    value: Any
    components: tuple[int, ...] = ()

    def labels(self, names: Sequence[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The name and the place of each number of one component that is worth a line.

        Args:
            names: of the columns; for axes of other lengths there are numbers.
        """
        value = np.asarray(self.value)
        shape = value.shape[1:] if self.components else value.shape
        symmetric = self.name.rpartition(".")[2] == "covariance" and len(shape) == 2
        for place in itertools.product(*map(range, shape)):
            if symmetric and place[0] < place[1]:
                continue
            # off the diagonal of a diagonal structure there is nothing to read
            if symmetric and place[0] != place[1] and not np.any(value[..., *place]):
                continue
            at = [
                str(names[i] if (axis == 0 or symmetric) and len(names) == shape[axis] else i)
                for axis, i in enumerate(place)
            ]
            alone = len(names) != 1 and all(size == 1 for size in shape)
            yield self.name if alone else f"{self.name}[{', '.join(at)}]", place


@dataclasses.dataclass(frozen=True)
class Line:
    """One number.

    Attributes:
        component: whose; -1 of all.
        name: such as "mean[length]".
        parameter: its number among `parameters`.
        place: where in that array.
        value: the number.
    """

    component: int
    name: str
    parameter: int
    place: tuple[int, ...]
    value: float


def parameters(mixture: Any) -> list[Parameter]:
    """Proportions, where there are any, and what the components report of themselves."""
    components, every = mixture.components, tuple(range(mixture.n_components))
    own = [] if components.gated else [Parameter("weight", mixture.weights, every)]
    return own + list(_of(components, "", every))


def values(mixture: Any) -> list[Any]:
    """The arrays of `parameters`: what the delta method takes."""
    return [one.value for one in parameters(mixture)]


def lines(mixture: Any, names: Sequence[str] = ()) -> list[Line]:
    """All numbers, component by component; last those that all share.

    Raises:
        ValueError: within `jit`, and for a batch of mixtures.
    """
    if is_traced(mixture):
        raise ValueError("the parameters are not known under jit: ask for them outside of it")
    if np.ndim(mixture.log_weights) > 1:
        raise ValueError("the mixture is a batch: take one, such as batch[0].mixture")
    found = []
    for number, parameter in enumerate(parameters(mixture)):
        value = np.asarray(parameter.value)
        for name, place in parameter.labels(names):
            spots = [(j, (i, *place)) for i, j in enumerate(parameter.components)]
            for component, where in spots or [(-1, place)]:
                found.append(Line(component, name, number, where, value[where].item()))
    # stable: the order within a component stays
    return sorted(found, key=lambda line: line.component if line.component >= 0 else np.inf)


def table(mixture: Any, names: Sequence[str] = ()) -> Any:
    """See `Mixture.table`."""
    k = mixture.n_components
    columns: dict[str, list[Any]] = {"component": list(range(k))}
    for line in lines(mixture, names):
        column = columns.setdefault(line.name, [float("nan")] * k)
        for j in range(k) if line.component < 0 else [line.component]:
            column[j] = line.value
    return data_frame(columns)


def data_frame(columns: dict[str, Any]) -> Any:
    """A DataFrame of pandas, or of polars where only that is installed.

    Raises:
        ImportError: where neither is.
    """
    try:
        import pandas

        return pandas.DataFrame(columns)
    except ImportError:
        pass
    try:
        import polars

        return polars.DataFrame(columns)
    except ImportError:
        raise ImportError("a table needs pandas or polars: pip install pandas") from None


def _of(family: Family, prefix: str, every: tuple[int, ...]) -> Iterator[Parameter]:
    """What a family of these components reports, through its parts."""
    for name, value in family.reported().items():
        if isinstance(value, Family):
            yield from _of(value, prefix, every)
        elif isinstance(value, dict) and all(isinstance(one, Family) for one in value.values()):
            ends = np.cumsum([one.n_components for one in value.values()])
            for end, (part, one) in zip(ends, value.items(), strict=True):
                # kinds have components of their own, the parts of a product all of them
                mine = every[end - one.n_components : end] if ends[-1] == len(every) else every
                yield from _of(one, f"{prefix}{part}.", mine)
        else:
            yield from _arrays(family, name, prefix, every)


def _arrays(family: Family, name: str, prefix: str, every: tuple[int, ...]) -> Iterator[Parameter]:
    k = len(every)
    more = np.zeros(k + 1, int)
    # which arrays have an axis of components: those that grow with their number
    grown = jax.eval_shape(lambda one: one.take(more).reported()[name], family)
    found = jax.tree_util.tree_leaves_with_path(family.reported()[name])
    for (path, leaf), other in zip(found, jax.tree.leaves(grown), strict=True):
        keys = [
            str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path
        ]
        shape, wider = np.shape(leaf), other.shape
        own = shape[:1] == (k,) and wider[:1] == (k + 1,)
        yield Parameter(prefix + ".".join([name, *keys]), leaf, every if own else ())
