"""Components of different kinds that compete for rows: signal and noise, counts and zeros."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int, PRNGKeyArray, PyTree

from ..core.numerics import safe_divide
from ..core.tree import along, pytree, replace, static
from ..priors import Prior
from .checks import check_columns
from .coordinates import Frame, Identity
from .family import Description, Family, describe
from .fixed import Fixed, Uniform


@pytree
class OneOf(Family):
    """Components of several kinds, one kind behind another: all claim the same rows.

    Attributes:
        kinds: families of k_1, k_2, ... components; K is their sum.
        names: of the kinds.

    Example:
        >>> import numpy as np, otmix_jax as om
        >>> rng = np.random.default_rng(0)
        >>> x = np.concatenate([rng.normal(size=(80, 2)), rng.uniform(-20, 20, (40, 2))])
        >>> family = om.families.OneOf.of(("gaussian", None), "uniform")
        >>> weights = om.fit(x, 2, family=family, key=0).mixture.weights
        >>> [round(float(weight), 1) for weight in weights]
        [0.7, 0.3]
    """

    kinds: tuple[Any, ...]
    names: tuple[str, ...] = static()
    priors = frozenset({"parts"})
    exchangeable = False

    @classmethod
    def of(cls, *kinds: Any, **named: Any) -> Description:
        """Kinds in their order: each a family, for one component, or (family, how many).

        Args:
            kinds: None instead of a number, of one of them, is what is left of `n_components`.
            named: further kinds, called so in priors and in `parts`.

        Raises:
            ValueError: for no kind, no component of one, or None twice.
        """
        pairs = [("", kind) for kind in kinds] + list(named.items())
        read = [(name, *(kind if isinstance(kind, tuple) else (kind, 1))) for name, kind in pairs]
        parts: dict[str, Description] = {}
        counts: dict[str, int | None] = {}
        for name, family, count in read:
            described = describe(family)
            spelled = family if isinstance(family, str) else described.family.__name__.lower()
            called = name or spelled
            called += f"_{len(parts)}" if called in parts else ""
            parts[called], counts[called] = described, None if count is None else int(count)
        given = [count for count in counts.values() if count is not None]
        if not parts or min(given, default=1) < 1 or len(given) < len(parts) - 1:
            raise ValueError(
                f"OneOf needs kinds with at least one component each, and None, for what is left "
                f"of n_components, once at most; not {counts}"
            )
        return _described(cls, counts, parts)

    def described(self) -> Description:
        """See `Family.described`."""
        counts = {name: part.n_components for name, part in self.parts.items()}
        parts = {name: part.described() for name, part in self.parts.items()}
        return _described(type(self), counts, parts)

    @property
    def parts(self) -> dict[str, Any]:
        """The kinds by their names."""
        return dict(zip(self.names, self.kinds, strict=True))

    def reported(self) -> dict[str, Any]:
        """See `Answers.reported`."""
        return {"kinds": self.parts}

    @property
    def slices(self) -> list[slice]:
        """Which components are of each kind."""
        return _slices([kind.n_components for kind in self.kinds])

    @property
    def table(self) -> bool:  # type: ignore[override]
        """See `Family.table`."""
        return all(kind.table for kind in self.kinds)

    @property
    def exact_m_step(self) -> bool:  # type: ignore[override]
        """Whether that of every kind is."""
        return all(kind.exact_m_step for kind in self.kinds)

    @property
    def holds(self) -> frozenset[str]:  # type: ignore[override]
        """Any kind."""
        return frozenset(self.names)

    @property
    def n_components(self) -> int:
        """K."""
        return sum(kind.n_components for kind in self.kinds)

    @property
    def n_features(self) -> int | None:
        """The width d of a row, where one of the kinds knows it."""
        return next((k.n_features for k in self.kinds if k.n_features is not None), None)

    @property
    def n_parameters(self) -> int:
        """The kinds' together."""
        return sum(kind.n_parameters for kind in self.kinds)

    def check_columns(self, x: PyTree) -> None:
        """Each kind reads the same rows.

        Raises:
            ValueError: for what a kind cannot read.
        """
        for kind in self.kinds:
            check_columns(kind, x)

    def cost(self, x: PyTree) -> Float[Array, "n k"]:
        """The kinds' costs, side by side."""
        return jnp.concatenate([kind.cost(x) for kind in self.kinds], axis=1)

    def prepared_cost(self) -> Partial:
        """The kinds' prepared costs, side by side."""
        return Partial(_side_by_side, tuple(kind.prepared_cost() for kind in self.kinds))

    def statistics(self, x: PyTree, plan: Float[Array, "n k"]) -> tuple[PyTree, ...]:
        """The kinds' own, each under its columns of the plan."""
        pairs = zip(self.kinds, self.slices, strict=True)
        return tuple(kind.statistics(x, plan[:, mine]) for kind, mine in pairs)

    def maximize(
        self,
        statistics: tuple[PyTree, ...],
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "OneOf":
        """Each kind for itself; one in `held` stays."""
        own, moved = _parts(prior), []
        told = zip(self.names, self.kinds, self.slices, statistics, strict=True)
        for name, kind, mine, sums in told:
            stays = name in held
            moved.append(kind if stays else kind.maximize(sums, mass[mine], own.get(name)))
        return replace(self, kinds=tuple(moved))

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; the kinds' together, where all have one."""
        told = zip(self.kinds, self.slices, statistics, at.kinds, strict=True)
        each = [kind.expected_cost(sums, mass[mine], new) for kind, mine, sums, new in told]
        return None if any(one is None for one in each) else sum(each)

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`; kind by kind."""
        told = zip(self.kinds, self.slices, statistics, onto.kinds, strict=True)
        return tuple(kind.recentred(sums, mass[mine], new) for kind, mine, sums, new in told)

    def penalty(self, prior: Prior | None) -> Float[Array, ""] | float:
        """The kinds' together."""
        own = _parts(prior)
        return sum(kind.penalty(own.get(name)) for name, kind in self.parts.items())

    def constrain(self, coordinates: dict[str, Any]) -> "OneOf":
        """Kind by kind."""
        moved = [
            kind.constrain(coordinates[name]) if name in coordinates else kind
            for name, kind in self.parts.items()
        ]
        return replace(self, kinds=tuple(moved))

    def unconstrained(self, origin: Any) -> dict[str, Any]:
        """Kind by kind."""
        return {name: kind.unconstrained(origin.parts[name]) for name, kind in self.parts.items()}

    def take(self, which: Any) -> "OneOf":
        """See `Family.take`: components of a kind stay together, and a kind may be left out.

        Under a trace all K components are taken, each kind's in its place.

        Raises:
            ValueError: for an order in which a kind would be in two places.
        """
        slices = self.slices
        if isinstance(which, Tracer):
            taken = zip(self.kinds, slices, strict=True)
            return replace(self, kinds=tuple(k.take(which[s] - s.start) for k, s in taken))
        which = np.arange(self.n_components)[np.asarray(which)]
        owner = np.repeat(np.arange(len(slices)), [s.stop - s.start for s in slices])[which]
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        order = owner[first].tolist()
        if len(set(order)) < len(order):
            raise ValueError(f"components {which.tolist()} would put one of {self.names} apart")
        runs = zip(order, np.split(which, first[1:]), strict=True)
        kinds = tuple(self.kinds[number].take(one - slices[number].start) for number, one in runs)
        return OneOf(kinds, tuple(self.names[number] for number in order))

    def out_of(self, frame: Frame) -> "OneOf":
        """Kind by kind, all out of the same frame."""
        return replace(self, kinds=tuple(kind.out_of(frame) for kind in self.kinds))

    def sample(self, key: PRNGKeyArray, labels: Int[Array, " n"], given: PyTree = None) -> PyTree:
        """Every kind draws, each from its own key, and the label says which is taken."""
        drawn: Any = None
        keys = jax.random.split(key, len(self.kinds))
        for one, kind, mine in zip(keys, self.kinds, self.slices, strict=True):
            within = jnp.clip(labels - mine.start, 0, kind.n_components - 1)
            rows, chosen = kind.sample(one, within, given), labels >= mine.start
            drawn = rows if drawn is None else jax.tree.map(_either(chosen), rows, drawn)
        return drawn

    @classmethod
    def of_rows(cls, x: Any, counts: Any, parts: Any) -> Description:
        """Kind by kind."""
        return _described(cls, dict(counts), {name: part.of_rows(x) for name, part in parts})

    @classmethod
    def initial(cls, x: PyTree, plan: Float[Array, "n k"], counts: Any, parts: Any) -> "OneOf":
        """Kind by kind, under its columns of the plan, and a trace of all others.

        Raises:
            ValueError: at trace time, for a plan of another number of components.
        """
        row = jnp.sum(plan, axis=1, keepdims=True)
        kinds = []
        for (_, part), mine in zip(parts, _slices(_resolved(counts, plan.shape[1])), strict=True):
            # no row is unheard of, and a plan is of total mass 1
            own = plan[:, mine] + jnp.finfo(plan.dtype).eps * row
            kinds.append(part.initial(x, safe_divide(own, jnp.sum(own))))
        return cls(tuple(kinds), tuple(name for name, _ in parts))

    @classmethod
    def seats(cls, n_components: int, counts: Any = (), parts: Any = ()) -> list[int]:
        """See `Shares.seats`: those that each kind has."""
        found = []
        numbers = _resolved(counts, n_components)
        for (_, part), mine in zip(parts, _slices(numbers), strict=True):
            own = part.family.seats(mine.stop - mine.start, **dict(part.options))
            found += [mine.start + seat for seat in own]
        return found

    @classmethod
    def frame(
        cls, x: Any, weight: Any, begins: Any = None, counts: Any = (), parts: Any = ()
    ) -> Frame:
        """The one that suits all kinds, if they have frames of one type: one that keeps volumes if
        a kind wants that, else one of a single unit. Otherwise none.
        """
        frames = [part.frame(x, weight, begins) for _, part in parts]
        if len({type(frame) for frame in frames}) > 1:
            return Identity()
        return min(frames, key=_freedom)

    @classmethod
    def check(cls, x: Any, counts: Any, parts: Any) -> None:
        """What each kind checks, of the rows that lie on no point mass.

        Raises:
            ValueError: for what a kind refuses.
        """
        del counts
        n = len(jax.tree.leaves(x)[0])
        covered = np.zeros(n, bool)
        for _, part in parts:
            if issubclass(part.family, Fixed):
                part.check(x)
                covered |= part.family.covers(x, **dict(part.options))
        if covered.all():
            return
        # the row before in their place: a message names the first of its kind by its number
        instead = np.maximum.accumulate(np.where(covered, -1, np.arange(n)))
        instead = np.where(instead < 0, instead[-1], instead)
        rest = jax.tree.map(lambda leaf: leaf[instead], x) if covered.any() else x
        for _, part in parts:
            part.check(rest)

    @classmethod
    def embed(cls, x: Any, counts: Any, parts: Any) -> Float[Array, "n e"]:
        """That of the first kind that rows are assigned to."""
        seated = [p for _, p in parts if p.family.seats(1, **dict(p.options))]
        return (seated or [part for _, part in parts])[0].embed(x)

    @classmethod
    def weak_prior(cls, variance: Any, strength: Array, counts: Any, parts: Any) -> Prior | None:
        """Those of the kinds that have one."""
        return _joined({name: part.weak_prior(variance, strength) for name, part in parts})

    @classmethod
    def least(cls, dtype: Any, counts: Any, parts: Any) -> Prior | None:
        """Those of the kinds that have one."""
        return _joined({name: part.least(dtype) for name, part in parts})

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """By its own kind."""
        own, told = _parts(prior), zip(self.names, self.kinds, self.slices, strict=True)
        return jnp.concatenate(
            [kind.spurious(own.get(name), weights[mine], n_rows) for name, kind, mine in told]
        )

    def imprecise(self) -> Bool[Array, " k"]:
        """By its own kind."""
        return jnp.concatenate([kind.imprecise() for kind in self.kinds])

    @classmethod
    def examples(cls) -> dict[str, "OneOf"]:
        """Two Gaussians in a box of noise."""
        signal = describe("gaussian").family.examples()["full"].take(np.arange(2))
        edge = jnp.full((1, 2), 12.0)
        return {"noise": cls((signal, Uniform(-edge, edge)), ("signal", "noise"))}


def _described(cls: type[OneOf], counts: dict, parts: dict) -> Description:
    # in the order of the components, not sorted
    return Description(cls, (("counts", tuple(counts.items())), ("parts", tuple(parts.items()))))


def _parts(prior: Prior | None) -> dict[str, Prior]:
    return (prior.parts if prior is not None else None) or {}


def _joined(priors: dict[str, Prior | None]) -> Prior | None:
    present = {name: prior for name, prior in priors.items() if prior is not None}
    return Prior(parts=present) if present else None


def _slices(counts: list[int]) -> list[slice]:
    ends = np.cumsum(counts).tolist()
    return [slice(end - count, end) for count, end in zip(counts, ends, strict=True)]


def _resolved(counts: Any, n_components: int) -> list[int]:
    """How many components of each kind there are among so many."""
    numbers = [count for _, count in counts]
    rest = n_components - sum(number or 0 for number in numbers)
    if rest < (None in numbers) or (rest and None not in numbers):
        wanted = ", ".join(f"{name}: {'the rest' if n is None else n}" for name, n in counts)
        raise ValueError(f"n_components={n_components} does not go with the kinds ({wanted})")
    return [rest if number is None else number for number in numbers]


def _freedom(frame: Any) -> tuple[bool, int]:
    unit = getattr(frame, "unit", 1)
    return not np.all(np.asarray(unit) == 1), np.ndim(unit)


def _either(chosen: Array) -> Any:
    return lambda new, old: jnp.where(along(chosen, new), new, old)


def _side_by_side(costs: tuple[Any, ...], x: PyTree) -> Float[Array, "n k"]:
    return jnp.concatenate([cost(x) for cost in costs], axis=1)
