"""JAX's own cache of compiled programs, kept from one process to the next."""

import errno
import os
import sys
import tempfile
import warnings
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache as jax_cache

VARIABLE = "OTMIX_JAX_CACHE"
"""Read when the package is imported: a folder, 1 for the user's cache folder, 0 for no cache."""
OFF = ("", "0", "false", "no", "off")
ON = ("1", "true", "yes", "on")
THRESHOLDS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
"""What JAX keeps: everything. Its own threshold of one second leaves small programs out."""


def compilation_cache(path: str | os.PathLike[str] | None = None) -> Path:
    """Keep compiled programs on disk, so that the next process loads what this one compiled.

    This is JAX's persistent cache, for every program of the process, with thresholds that suit
    small ones (`JAX_PERSISTENT_CACHE_MIN_...` in the environment win). What was compiled before the
    call is not written. The folder holds code: share it with nobody whom you do not trust. It grows
    until it is emptied, unless `JAX_COMPILATION_CACHE_MAX_SIZE` limits it.

    Args:
        path: a folder, which is made if need be. None: the one that JAX has already, from
            `JAX_COMPILATION_CACHE_DIR` or an earlier call, or else `otmix_jax` in the user's
            cache folder.

    Returns:
        The folder.

    Raises:
        OSError: where the folder cannot be made, or written to.

    Example:
        >>> import otmix_jax as om
        >>> folder = om.compilation_cache()  # doctest: +SKIP
    """
    present = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    folder = os.fspath(path or present or _user_folder())
    if "://" not in folder:  # a remote folder is JAX's to read and write
        folder = str(_writable(Path(folder)))
    for name, value in THRESHOLDS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    jax.config.update("jax_compilation_cache_dir", folder)
    # a cache that is in use would stay where it is
    jax_cache.reset_cache()
    if not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        warnings.warn("JAX_ENABLE_COMPILATION_CACHE is off: nothing is kept", stacklevel=2)
    return Path(folder)


def from_environment(default: str = "0") -> Path | None:
    """The cache as OTMIX_JAX_CACHE asks for it; a folder that cannot be written is a warning.

    Args:
        default: what the variable says where it is not set.

    Returns:
        The folder; None without a cache.
    """
    asked = os.environ.get(VARIABLE, default)
    if asked.lower() in OFF:
        return None
    try:
        return compilation_cache(None if asked.lower() in ON else asked)
    except OSError as error:
        # nobody called, and a program that would only start later must not stop
        warnings.warn(f"{VARIABLE}={asked}: {error}", RuntimeWarning, stacklevel=3)
        return None


def _user_folder() -> Path:
    """Where this system keeps what a user's programs can make again."""
    if sys.platform == "win32":
        base, usual = os.environ.get("LOCALAPPDATA", ""), "~/AppData/Local"
    elif sys.platform == "darwin":
        base, usual = "", "~/Library/Caches"
    else:
        base, usual = os.environ.get("XDG_CACHE_HOME", ""), "~/.cache"
    # the XDG specification: a relative path is to be ignored
    return Path(base if os.path.isabs(base) else usual) / "otmix_jax"


def _writable(folder: Path) -> Path:
    """The folder, absolute; there, and tried."""
    remedy = "no compiled program can be kept here; name a folder that can be written"
    try:
        folder = folder.expanduser().absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: {remedy}", str(folder)) from error
    except RuntimeError as error:  # a user without a home
        raise OSError(errno.ENOENT, f"{error} {remedy}", str(folder)) from error
