"""Mixtures as distributions of numpyro, TensorFlow Probability (on JAX) and distrax."""

from typing import Any

import jax.numpy as jnp

from ..families import Binomial, Categorical, OneOf, Uniform
from ..model import Mixture
from ..model.moments import sound
from .laws import NUMPYRO, TFP, law_of, unwrapped

BOUNDED = (Binomial, Categorical, Uniform)
"""Families of which every component has a support of its own, as numpyro sees it."""


def to_numpyro(mixture: Mixture) -> Any:
    """The mixture as a distribution of numpyro, for models and guides; also under `jit`.

    Families of one law and one support become a `MixtureSameFamily`, others a `MixtureGeneral`.

    Args:
        mixture: of a family whose rows are one table.

    Raises:
        TypeError: for a family without a counterpart.
        ImportError: without numpyro.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> law = om.convert.to_numpyro(om.fit(x, 2, key=0).mixture)
        >>> law.log_prob(x).shape
        (272,)
    """
    import numpyro.distributions as dist

    # numpyro takes no -inf for the weight of an absent component
    least = jnp.finfo(mixture.log_weights.dtype).min / 4
    weights = dist.CategoricalLogits(jnp.maximum(mixture.log_weights, least))
    components = unwrapped(mixture.components)
    kinds = components.kinds if isinstance(components, OneOf) else (components,)
    if len(kinds) == 1 and type(components) not in BOUNDED:
        return dist.MixtureSameFamily(weights, _numpyro(components))
    single = [_numpyro(unwrapped(one), j) for one in kinds for j in range(one.n_components)]
    # each component has no mass off its own support, which is nothing to warn of
    constraints = dist.constraints
    support = constraints.nonnegative_integer if single[0].is_discrete else constraints.real
    support = constraints.independent(support, 1)
    return dist.MixtureGeneral(weights, single, support=support, validate_args=False)


def to_tfp(mixture: Mixture) -> Any:
    """The mixture as a `MixtureSameFamily` of TensorFlow Probability's JAX substrate.

    Raises:
        TypeError: for a family without a counterpart.
        ImportError: without tensorflow_probability.
    """
    from tensorflow_probability.substrates.jax import distributions as tfd  # type: ignore

    weights = tfd.Categorical(logits=mixture.log_weights)
    return tfd.MixtureSameFamily(weights, _tfp(unwrapped(mixture.components)))


def to_distrax(mixture: Mixture) -> Any:
    """The mixture as distrax's `MixtureSameFamily`, of the components that `to_tfp` has.

    Raises:
        TypeError: for a family without a counterpart.
        ImportError: without distrax, which needs tensorflow_probability.
    """
    import distrax  # type: ignore

    weights = distrax.Categorical(logits=mixture.log_weights)
    return distrax.MixtureSameFamily(weights, _tfp(unwrapped(mixture.components)))


def _numpyro(components: Any, which: int | None = None) -> Any:
    """The law of the components, or of one of them, which is asked off its support too."""
    import numpyro.distributions as dist

    law = law_of(components, NUMPYRO, "numpyro")
    # an absent component may hold NaN, which a weight of 0 would not hide
    arguments = law.arguments(sound(components)).items()
    own = {name: value if which is None else value[which] for name, value in arguments}
    made = getattr(dist, law.name)(**own, validate_args=None if which is None else False)
    return made.to_event(1) if law.by_column else made


def _tfp(components: Any) -> Any:
    from tensorflow_probability.substrates.jax import distributions as tfd  # type: ignore

    law = law_of(components, TFP, "TFP")
    made = getattr(tfd, law.name)(**law.arguments(sound(components)))
    return tfd.Independent(made, 1) if law.by_column else made
