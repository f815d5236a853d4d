"""Compiled programs outlive the process: each case in interpreters of its own."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import otmix_jax as om
from otmix_jax.core import cache

OURS = ("OTMIX_JAX_CACHE", "JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME")
COUNTS = """
import collections, jax
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event.split("/")[-1]]))
import otmix_jax as om
def compile(number):
    jax.jit(lambda x: x + number)(1.0)
def report():
    print(counts["cache_hits"], counts["cache_misses"], jax.config.jax_compilation_cache_dir)
"""


def interpreter(code, **environment):
    """(hits, misses, JAX's folder) as `report()` prints them in a fresh interpreter."""
    inherited = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COUNTS + code],
        env={**inherited, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    hits, misses, folder = done.stdout.split(maxsplit=2)
    return int(hits), int(misses), folder.strip()


def programs(folder):
    return sorted(path.name for path in folder.glob("*-cache"))


def test_the_next_interpreter_loads_what_the_first_compiled(tmp_path):
    """Called after a first compilation, and after another folder was in use."""
    code = f"""
compile(2)
om.compilation_cache({str(tmp_path / "other")!r})
compile(3)
assert om.compilation_cache({str(tmp_path / "cache")!r}).samefile({str(tmp_path / "cache")!r})
compile(4)
report()
"""
    hits, misses, folder = interpreter(code)
    assert (hits, folder) == (0, str(tmp_path / "cache"))
    assert misses >= 2
    kept = programs(tmp_path / "cache")
    assert kept
    assert programs(tmp_path / "other")

    code = f"om.compilation_cache({str(tmp_path / 'cache')!r}); compile(4); report()"
    assert interpreter(code) == (len(kept), 0, folder)
    assert programs(tmp_path / "cache") == kept


@pytest.mark.skipif(sys.platform != "linux", reason="the folder's name is the system's")
@pytest.mark.parametrize(
    ("asked", "jax_has", "expected"),
    [
        ("0", None, "None"),
        ("1", None, "user/otmix_jax"),
        ("1", "theirs", "theirs"),
        ("named", "theirs", "named"),
    ],
)
def test_the_environment_turns_it_on(tmp_path, asked, jax_has, expected):
    """At import, before anything is compiled."""
    environment = {"XDG_CACHE_HOME": str(tmp_path / "user")}
    environment["OTMIX_JAX_CACHE"] = str(tmp_path / asked) if asked == "named" else asked
    if jax_has:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / jax_has)
    _, misses, folder = interpreter("compile(2); report()", **environment)
    assert folder == ("None" if expected == "None" else str(tmp_path / expected))
    assert (misses > 0) == (expected != "None")
    assert programs(tmp_path / expected) != [] or expected == "None"


def test_thresholds_of_the_environment_win(tmp_path):
    environment = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000"}
    code = f"om.compilation_cache({str(tmp_path)!r}); compile(2); report()"
    assert interpreter(code, **environment) == (0, 0, str(tmp_path))
    assert not programs(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    """An error where it was asked for, a warning where only the environment asks; also as root."""
    (tmp_path / "file").write_text("")
    code = f"""
import pytest, warnings
from otmix_jax.core import cache
below = {str(tmp_path / "file" / "below")!r}
with pytest.raises(NotADirectoryError, match="name a folder that can be written"):
    om.compilation_cache(below)
import os
os.environ["OTMIX_JAX_CACHE"] = below
with pytest.warns(RuntimeWarning, match="OTMIX_JAX_CACHE=.*name a folder"):
    assert cache.from_environment() is None
report()
"""
    assert interpreter(code) == (0, 0, "None")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="name a folder that can be written"):
        om.compilation_cache(tmp_path / "below")


def test_a_cache_that_is_switched_off_is_said(tmp_path):
    code = f"""
import pytest
with pytest.warns(UserWarning, match="JAX_ENABLE_COMPILATION_CACHE is off"):
    om.compilation_cache({str(tmp_path)!r})
compile(2)
report()
"""
    assert interpreter(code, JAX_ENABLE_COMPILATION_CACHE="0") == (0, 0, str(tmp_path))


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "~/.cache/otmix_jax"),
        ("linux", {"XDG_CACHE_HOME": "/scratch"}, "/scratch/otmix_jax"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "~/.cache/otmix_jax"),
        ("darwin", {"XDG_CACHE_HOME": "/scratch"}, "~/Library/Caches/otmix_jax"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/otmix_jax"),
        ("win32", {}, "~/AppData/Local/otmix_jax"),
    ],
)
def test_the_users_folder(monkeypatch, platform, environment, expected):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache.sys, "platform", platform)
    assert cache._user_folder() == Path(expected)


def test_a_user_without_a_home(monkeypatch):
    def homeless(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(OSError, match="home directory. .*name a folder") as caught:
        cache._writable(Path("~/anything"))
    assert caught.value.errno == errno.ENOENT
