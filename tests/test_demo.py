"""The demo runs, holds to its identities, and draws."""

import jax
import matplotlib as mpl
import numpy as np
import pytest

import otmix_jax as om
from otmix_jax import plot
from otmix_jax.cli import demo

mpl.use("Agg")


def test_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTMIX_JAX_CACHE", "0")  # the cache of the tests stays as it is
    demo.main()
    printed = capsys.readouterr().out
    assert printed.count("CONVERGED") == 3
    assert printed.count("-1126.3159") == 3
    assert (tmp_path / "demo.png").read_bytes()[1:4] == b"PNG"


def test_ellipses_are_the_covariances(faithful):
    mixture = om.fit(faithful, 2, key=0, starts=om.Starts(n_init=1)).mixture
    axes = plot.mixture(mixture, faithful, deviations=2)
    assert len(axes.patches) == 2
    for patch, mean, matrix in zip(
        axes.patches,
        np.asarray(mixture.components.mean),
        np.asarray(mixture.components.matrices()),
        strict=True,
    ):
        outline = patch.get_patch_transform().transform(patch.get_path().vertices) - mean
        distance = np.einsum("ni,ij,nj->n", outline, np.linalg.inv(matrix), outline)
        on_curve = np.isclose(distance, 4.0, rtol=1e-9)
        assert on_curve.sum() >= 8  # the spline's knots lie on the ellipse
        assert distance.min() > 3.9


def test_history_names_each_run(faithful):
    problem = om.Problem(faithful)
    initial = om.initializers.random_rows(jax.random.key(0), problem, n_components=2)
    axes = plot.history({"EM": om.solve(problem, initial, max_steps=4)})
    assert axes.get_legend().get_texts()[0].get_text() == "EM, 4 steps"


@pytest.fixture(autouse=True)
def close_figures():
    yield
    mpl.pyplot.close("all")
