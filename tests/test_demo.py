"""The demo runs, holds to its identities, and draws."""

import matplotlib as mpl
import pytest

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


@pytest.fixture(autouse=True)
def close_figures():
    yield
    mpl.pyplot.close("all")
