"""Families of one's own from the log-density of one component and one row."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from ..core.numerics import safe_divide
from ..core.registry import remember
from ..core.tree import pytree, replace, static
from . import em_gradient
from .concentration import EULER
from .coordinates import POSITIVE, REAL, Domain
from .family import Description, Family, as_columns
from .independent import SHRUNK

WIDEST = 64
"""Coordinates of a component up to which the M-step is Newton's; beyond, by a diagonal."""


@dataclasses.dataclass(frozen=True)
class Law:
    """What a user said of a family; hashable, its functions by identity.

    Attributes:
        log_prob: (parameters, row) to a number.
        initial: (rows, weights) to parameters.
        sample: (parameters, key) or (parameters, key, given) to a row; or None.
        embed: rows to columns, for seeds; or None.
        domains: the leaves of a prefix of the parameters, and its structure.
    """

    log_prob: Callable[..., Any]
    initial: Callable[..., Any]
    sample: Callable[..., Any] | None
    embed: Callable[..., Any] | None
    domains: tuple[tuple[Domain, ...], Any]

    def __str__(self) -> str:
        return getattr(self.log_prob, "__name__", "custom")

    @property
    def known_as(self) -> str | None:
        """The name in files: those of its functions; None where one is a lambda or a closure."""
        functions = (self.log_prob, self.initial, self.sample, self.embed)
        names = [_importable(one) for one in functions if one is not None]
        return None if None in names else " ".join(["law", *map(str, names)])

    @property
    def unknown_because(self) -> str:
        """What keeps it out of files."""
        return (
            "functions are found again by their names, so all of from_log_prob must be functions "
            "of a module, no lambdas and none made within others"
        )

    def of(self, parameters: PyTree) -> PyTree:
        """The domain of each leaf."""
        prefix = jax.tree.unflatten(self.domains[1], self.domains[0])
        return jax.tree.broadcast(prefix, parameters)


@pytree
class FromLogProb(Family):
    """K components of a law of one's own; see `from_log_prob`.

    Attributes:
        parameters: a PyTree of real arrays, with a leading axis k on every leaf.
        law: what they are parameters of.
    """

    parameters: Any
    law: Law = static()

    @property
    def fields(self) -> dict[str, Any]:
        """The parameters by name, as far as they have names."""
        named = isinstance(self.parameters, dict)
        return self.parameters if named else {"parameters": self.parameters}

    @property
    def domains(self) -> dict[str, Any]:
        """The domain of every leaf of `fields`."""
        found = self.law.of(self.parameters)
        return found if isinstance(self.parameters, dict) else {"parameters": found}

    def reported(self) -> dict[str, Any]:
        """See `Answers.reported`."""
        return self.fields

    def _with(self, fields: dict[str, Any]) -> "FromLogProb":
        named = isinstance(self.parameters, dict)
        return replace(self, parameters=fields if named else fields["parameters"])

    @property
    def n_components(self) -> int:
        """K."""
        return jnp.shape(jax.tree.leaves(self.parameters)[0])[0]

    @property
    def n_parameters(self) -> int:
        """The degrees of freedom of all components."""
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(self.parameters)]
        domains = jax.tree.leaves(self.law.of(self.parameters))
        return sum(s[0] * d.free(s[1:]) for s, d in zip(shapes, domains, strict=True))

    def cost(self, x: PyTree) -> Float[Array, "n k"]:
        """C_ij = -log_prob(parameters_j, row_i)."""
        by_row = jax.vmap(self.law.log_prob, (None, 0))
        found = jax.vmap(by_row, (0, None), out_axes=1)(self.parameters, x)
        if jnp.ndim(found) != 2:
            shape = jnp.shape(found)[2:]
            raise ValueError(
                f"log_prob must return one number for one row, not shape {shape}: sum over it"
            )
        return -found

    def constrain(self, coordinates: dict[str, Any]) -> "FromLogProb":
        """See `coordinates.constrain`."""
        moved = {
            name: jax.tree.map(_at, self.domains[name], self.fields[name], z)
            for name, z in coordinates.items()
        }
        return self._with({**self.fields, **moved})

    def unconstrained(self, origin: Any) -> dict[str, Any]:
        """See `coordinates.unconstrained`."""
        return {
            name: jax.tree.map(_coordinates, domain, self.fields[name], origin.fields[name])
            for name, domain in self.domains.items()
        }

    def take(self, which: Any) -> "FromLogProb":
        """See `coordinates.take`."""
        return replace(self, parameters=jax.tree.map(lambda leaf: leaf[which], self.parameters))

    @property
    def _wide(self) -> bool:
        return self.n_parameters > WIDEST * self.n_components

    def statistics(self, x: PyTree, plan: Float[Array, "n k"]) -> Any:
        """Those of EM-gradient; of many parameters no Hessian is made."""
        how = em_gradient.diagonal_statistics if self._wide else em_gradient.statistics
        return how(self, x, plan)

    @classmethod
    def initial(cls, x: PyTree, plan: Float[Array, "n k"], law: Law) -> "FromLogProb":
        """The law's own, of the assigned rows, drawn a little to all rows."""
        everywhere = jnp.sum(plan, axis=1)
        mass = jnp.sum(plan, axis=0)
        own = jnp.where(mass > 0, safe_divide(plan, mass), everywhere[:, None])
        weights = (1 - SHRUNK) * own + SHRUNK * everywhere[:, None]
        found = jax.vmap(law.initial, (None, 1))(x, weights)
        return cls(jax.tree.map(lambda leaf: leaf.astype(plan.dtype), found), law)

    def sample(self, key: PRNGKeyArray, labels: Int[Array, " n"], given: PyTree = None) -> PyTree:
        """One row from each label's component.

        Raises:
            TypeError: where no `sample` was given.
        """
        if self.law.sample is None:
            raise TypeError("these components cannot draw rows: give from_log_prob a `sample`")
        keys, own = jax.random.split(key, len(labels)), self.take(labels).parameters
        rest = () if given is None else (given,)
        return jax.vmap(self.law.sample)(own, keys, *rest)

    def described(self) -> Description:
        """See `Family.described`."""
        return Description(type(self), (("law", self.law),))

    @classmethod
    def embed(cls, x: PyTree, law: Law) -> Float[Array, "n e"]:
        """The law's own, or every column as it is."""
        return as_columns(x) if law.embed is None else law.embed(x)

    @classmethod
    def examples(cls) -> dict[str, "FromLogProb"]:
        """Three Gumbel laws."""
        law: Any = dict(GUMBEL.options)["law"]
        location, scale = jnp.array([0.0, 4.0, -3.0]), jnp.array([0.5, 1.0, 1.5])
        return {"gumbel": cls({"location": location, "scale": scale}, law)}


@pytree
class FromLogProbOfColumns(FromLogProb):
    """`FromLogProb` whose rows are a dict of columns."""

    parameters: Any
    law: Law = static()
    table = False

    @classmethod
    def examples(cls) -> dict[str, "FromLogProb"]:
        """None: as `FromLogProb`."""
        return {}


def from_log_prob(
    log_prob: Callable[..., Any],
    *,
    initial: Callable[..., Any],
    sample: Callable[..., Any] | None = None,
    domains: PyTree = REAL,
    embed: Callable[..., Any] | None = None,
    table: bool = True,
) -> Description:
    """A family from the log-density of one component and one row.

    The functions are JAX's, for one component: they are mapped over components and rows. Make a
    family once and keep it: functions count by identity, and another one is compiled anew.

    The M-step is one guarded Newton step on the expected cost. Components of more than 64
    coordinates, such as a neural network's weights, take a step along the gradient, scaled by the
    squares of each row's: `solvers.Gradient` often does better there.

    Args:
        log_prob: (parameters, row) to a number in nats, -inf off the support. The parameters are
            any PyTree of real arrays; names at the top of a dict can be held by `Frozen`.
        initial: (rows, weights) to the parameters of one component, from rows with weights [n] of
            sum 1.
        sample: (parameters, key) to a row; (parameters, key, given) where something is given.
        domains: where parameters live (`POSITIVE`, `SIMPLEX`, ...): one domain, or a tree that is
            a prefix of the parameters.
        embed: rows to columns [n, e] in which distances mean something, for seeds; None takes
            every column as it is.
        table: whether rows are one table [n, d], so that a row is [d]; if not, a dict of columns.

    Returns:
        A description, for `family=` of `fit`, `fit_batch`, `select` and `Product.of`.

    Example:
        >>> import jax, jax.numpy as jnp, otmix_jax as om
        >>> logistic = om.families.from_log_prob(
        ...     lambda p, row: -jnp.sum(row - p + 2 * jax.nn.softplus(p - row)),
        ...     initial=lambda x, weights: weights @ x,
        ... )
        >>> x = jnp.array([[-0.5], [0.1], [0.2], [17.9], [18.0], [18.3]])
        >>> centres = om.fit(x, 2, family=logistic, key=0).mixture.components.parameters
        >>> sorted(centres[:, 0].round(1).tolist())
        [-0.1, 18.1]
    """
    leaves, structure = jax.tree.flatten(domains)
    law = Law(log_prob, initial, sample, embed, (tuple(leaves), structure))
    if law.known_as:
        remember(law.known_as, law)
    return Description(FromLogProb if table else FromLogProbOfColumns, (("law", law),))


def _importable(function: Callable[..., Any]) -> str | None:
    """The name of a function of a module; None of others."""
    module, name = (getattr(function, key, "<") for key in ("__module__", "__qualname__"))
    return None if "<" in name or not module else f"{module}:{name}"


def _at(domain: Domain, origin: Array, z: Array) -> Array:
    return domain.at(origin, z)


def _coordinates(domain: Domain, value: Array, origin: Array) -> Array:
    return domain.coordinates(value, origin)


def _gumbel(parameters: dict[str, Array], row: Float[Array, " 1"]) -> Array:
    z = (row[0] - parameters["location"]) / parameters["scale"]
    return -z - jnp.exp(-z) - jnp.log(parameters["scale"])


def _gumbel_start(x: Float[Array, "n 1"], weights: Float[Array, " n"]) -> dict[str, Array]:
    mean = weights @ x[:, 0]
    scale = jnp.sqrt(6 * (weights @ (x[:, 0] - mean) ** 2)) / jnp.pi
    return {"location": mean - EULER * scale, "scale": scale}


def _gumbel_draw(parameters: dict[str, Array], key: PRNGKeyArray) -> Float[Array, " 1"]:
    drawn = jax.random.gumbel(key, (1,), parameters["scale"].dtype)
    return parameters["location"] + parameters["scale"] * drawn


GUMBEL = from_log_prob(
    _gumbel,
    initial=_gumbel_start,
    sample=_gumbel_draw,
    domains={"location": REAL, "scale": POSITIVE},
)
