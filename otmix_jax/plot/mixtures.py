"""Rows and components in two dimensions."""

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse

from ..model import Mixture

COLOURS = np.array(
    [
        [0.00, 0.45, 0.70],
        [0.84, 0.37, 0.00],
        [0.00, 0.62, 0.45],
        [0.80, 0.47, 0.65],
        [0.90, 0.62, 0.00],
        [0.34, 0.71, 0.91],
        [0.35, 0.35, 0.35],
    ]
)
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


def mixture(
    model: Mixture, x: Float[np.ndarray, "n 2"], *, axes: Axes | None = None, deviations: float = 2
) -> Axes:
    """Scatters rows, coloured by their responsibilities, under ellipses at `deviations` sigma.

    Args:
        model: a mixture of two-dimensional `Gaussian` components.
        x: [n, 2] rows.
        axes: where to draw; a new figure by default.
        deviations: Mahalanobis radius of the ellipses.

    Raises:
        ValueError: for rows that are not the mixture's, or not two columns.
    """
    if model.components.n_features != 2:
        raise ValueError(
            f"a picture has two columns, the mixture {model.components.n_features}: choose two"
        )
    # before a figure is opened, and before NumPy takes a mask off
    plan, x = np.asarray(model.responsibilities(x)), np.asarray(x)
    axes = axes or plt.subplots()[1]
    palette = COLOURS[np.arange(model.n_components) % len(COLOURS)]
    # clip: rounding may take a colour past 1, which matplotlib refuses
    axes.scatter(x[:, 0], x[:, 1], s=14, c=np.clip(plan @ palette, 0, 1), linewidths=0, alpha=0.8)
    components = model.components
    means = np.asarray(components.mean)
    matrices = np.asarray(components.matrices())
    weights = np.asarray(model.weights)
    for mean, matrix, weight, colour in zip(means, matrices, weights, palette, strict=True):
        axes.add_patch(_ellipse(mean, matrix, deviations, colour))
        axes.annotate(
            f"{weight:.0%}",
            mean,
            color=colour,
            weight="bold",
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
        )
    return axes


def _ellipse(mean: np.ndarray, matrix: np.ndarray, radius: float, colour: np.ndarray) -> Ellipse:
    lengths, directions = np.linalg.eigh(matrix)
    width, height = 2 * radius * np.sqrt(lengths)
    angle = np.degrees(np.arctan2(directions[1, 0], directions[0, 0]))
    return Ellipse(
        (mean[0], mean[1]), width, height, angle=angle, fill=False, color=colour, linewidth=2
    )
