"""Files of fitted things: written whole or not at all, read with nothing run."""

import contextlib
import os
import secrets
import stat
from typing import Any

from .archive import from_bytes, to_bytes

Path = str | os.PathLike[str]


class Saved:
    """What can be written to a file by itself."""

    def save(self, path: Any) -> None:
        """Write to a file, which `otmix_jax.load` reads.

        The file appears whole, or stays what it was: it is written beside its place, flushed to
        the disk and renamed. Equal answers give equal bytes.

        Args:
            path: of the file, by habit `.npz`; or a binary file that is open for writing.

        Raises:
            TypeError: for a family that has no name to find it by, such as one made of a lambda.
            ValueError: within `jit`.
            OSError: where the file cannot be written.

        Example:
            >>> import otmix_jax as om, tempfile, os
            >>> solution = om.fit(om.datasets.old_faithful().x, 2, key=0)
            >>> path = os.path.join(tempfile.mkdtemp(), "faithful.npz")
            >>> solution.save(path)
            >>> bool(om.load(path).value == solution.value)
            True
        """
        content = to_bytes(self)
        if isinstance(path, str | os.PathLike):
            write_atomically(path, content)
        else:
            path.write(content)


def load(path: Any) -> Any:
    """What `save` wrote: a `Solution`, a `Mixture`, a `Batch`, a `Choice`, ...

    Nothing in a file is run. Classes are looked up among those of this package and those that the
    process has defined: a file of a family of one's own needs its module imported first.

    Where a file holds float64 and JAX's 64 bits are off, values are rounded to float32, with a
    warning.

    Args:
        path: of the file, or a binary file that is open for reading.

    Raises:
        ValueError: for a file that is truncated, damaged, foreign, of a newer format, or of unknown
            classes, saying what was found.
        OSError: where it cannot be read.
    """
    if isinstance(path, str | os.PathLike):
        with open(path, "rb") as file:
            return from_bytes(file.read(), os.fspath(path))
    content = path.read()
    if not isinstance(content, bytes):
        raise TypeError("the file is open as text: open it in binary mode, 'rb'")
    return from_bytes(content, str(getattr(path, "name", "the file")))


def write_atomically(path: Path, content: bytes) -> None:
    """The file with this content, or as it was before."""
    # a link stays one, and what it points at is replaced
    place = os.path.realpath(path)
    beside = f"{place}.{secrets.token_hex(4)}.part"
    # as `open` makes one, by the user's umask; never a file that is there
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(beside, stat.S_IMODE(os.stat(place).st_mode))
        os.replace(beside, place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    _flush_folder(os.path.dirname(place))


def _flush_folder(folder: str) -> None:
    """The new name, too, onto the disk, where a folder can be flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_BINARY = getattr(os, "O_BINARY", 0)
