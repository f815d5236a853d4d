"""Every family's examples, rows and plans for them: what the contract tests run over.

The library's own, and those that CONTRIBUTING.md prints, as they are printed.
"""

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import otmix_jax as om
from otmix_jax.engine import Columns
from otmix_jax.families import Family, Frozen, Gaussian, Product, StudentT

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
PRINTED: dict = {"__name__": "contributing"}
for block in BLOCKS:
    exec(compile(block, PAGE.name, "exec"), PRINTED)


def families_in(namespace):
    """The concrete families by their names there."""
    return [
        f
        for f in namespace.values()
        if inspect.isclass(f) and issubclass(f, Family) and not inspect.isabstract(f)
    ]


FAMILIES = families_in(vars(om.families)) + families_in(PRINTED)
GAUSSIAN, STUDENT = Gaussian.examples(), StudentT.examples()
FROZEN = {
    "gaussian-mean": Frozen(GAUSSIAN["full"], "mean"),
    "gaussian-covariance": Frozen(GAUSSIAN["full"], "covariance"),
    "gaussian-tied-mean": Frozen(GAUSSIAN["tied"], "mean"),
    "gaussian-both": Frozen(GAUSSIAN["diagonal"], ("mean", "covariance")),
    "gaussian-nothing": Frozen(GAUSSIAN["full"]),
    "student-mean": Frozen(STUDENT["tied"], "mean"),
    "gamma-shape": Frozen(PRINTED["Gamma"].examples()["three"], "shape"),
    "product-part": Frozen(Product.examples()["mixed"], "visits"),
}
TIED_DIAGONAL = Gaussian(GAUSSIAN["tied"].mean, PRINTED["TiedDiagonal"](jnp.array([0.7, 1.2])))
# one of each kind of cost, M-step, form and wrapper; the others hold the contract in `make slow`
ALWAYS = {
    *("Gaussian-full", "Gaussian-tied", "StudentT-full", "Incomplete-full", "Noisy-full"),
    *("Poisson-counts", "Gamma-shapes", "Categorical-ragged", "VonMisesFisher-three"),
    *("LinearRegression-lines", "Repeated-pairs", "Product-mixed", "OneOf-noise"),
    *("Gamma-three", "Exponential-rates", "FromLogProb-gumbel"),  # those that are not built in
    "Frozen-gaussian-mean",
}


def named(example, name):
    """A parameter of the contract tests."""
    return pytest.param(example, id=name, marks=[] if name in ALWAYS else [pytest.mark.slow])


EXAMPLES = [
    named(example, f"{family.__name__}-{name}")
    for family in FAMILIES
    for name, example in family.examples().items()
] + [named(example, f"Frozen-{name}") for name, example in FROZEN.items()]
EXAMPLES.append(named(TIED_DIAGONAL, "Gaussian-of-a-contributor"))


def rows_for(family):
    """Forty rows, of each component in turn."""
    return family.sample(jax.random.key(0), jnp.arange(40) % family.n_components)


def plan_for(family):
    """A soft plan of total mass 1."""
    logits = jax.random.normal(jax.random.key(1), (40, family.n_components))
    return jax.nn.softmax(logits, axis=1) / 40


def columns_for(family):
    """Uneven proportions."""
    k = family.n_components
    return Columns(jnp.log(jnp.arange(1.0, k + 1) / (k * (k + 1) / 2)))
