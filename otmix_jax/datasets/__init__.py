"""Small real data sets, shipped with the package."""

import dataclasses
from importlib import resources

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Real rows and where they come from.

    Attributes:
        x: [n, d] rows, float64.
        feature_names: d names, with units.
        source: the publications.
    """

    x: Float[np.ndarray, "n d"]
    feature_names: tuple[str, ...]
    source: str


def _read(name: str) -> Float[np.ndarray, "n d"]:
    with resources.files(__name__).joinpath(name).open() as file:
        # ndmin: a single column stays a table [n, 1]
        return np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2)


def old_faithful() -> Dataset:
    """272 eruptions of the Old Faithful geyser: length and waiting time, in minutes."""
    return Dataset(
        _read("old_faithful.csv"),
        ("eruption (minutes)", "waiting (minutes)"),
        "Azzalini and Bowman (1990); Haerdle (1991); R datasets::faithful",
    )


def galaxies() -> Dataset:
    """82 velocities of galaxies in the Corona Borealis region, in km/s."""
    return Dataset(
        _read("galaxies.csv"),
        ("velocity (km/s)",),
        "Postman, Huchra and Geller (1986); Roeder (1990); R MASS::galaxies",
    )
