"""PyTrees as bytes: arrays, and a header in JSON that says what they are. No code, no pickle.

A file is a zip archive without compression, which `numpy.load` opens too: `header.json`, then
`leaf_0.npy`, `leaf_1.npy`, ... Its last 64 bytes, the archive's comment, are the SHA-256 of all
before them. Equal trees give equal bytes: nothing in it depends on time, machine or process.
"""

import dataclasses
import enum
import hashlib
import io
import json
import math
import warnings
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .._version import __version__
from .compiling import is_traced
from .registry import KNOWN, find, name_of

FORMAT, VERSION = "otmix_jax", 1
HEADER = "header.json"
DIGEST = 64
"""Length of the checksum in hexadecimal."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The least date that a zip archive can hold: that of every member."""
LONGEST = 60
"""How much of what was found is quoted."""


def to_bytes(tree: Any, note: Any = None) -> bytes:
    """A tree of known classes as the bytes of a file.

    Args:
        tree: what is saved.
        note: what JSON can hold, for `note_of`: how rows are read, for example.

    Raises:
        TypeError: for what has no name that another process could find: a class that is no
            `pytree`, a function, an object.
        ValueError: within `jit`, where the values are not at hand.
    """
    if is_traced(tree):
        raise ValueError("the values are not known under jit, vmap or grad: save what they return")
    writer = _Writer()
    description = writer.described(tree, type(tree).__name__)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "otmix_jax": __version__,
        "arrays": writer.table,
        "tree": description,
    }
    if note is not None:
        header["note"] = note
    members = {HEADER: json.dumps(header, allow_nan=False, indent=1).encode()}
    members |= {f"leaf_{i}.npy": _npy(leaf) for i, leaf in enumerate(writer.leaves)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content)
        archive.comment = b"0" * DIGEST
    content = buffer.getvalue()[:-DIGEST]
    return content + _digest(content)


def from_bytes(content: bytes, source: str = "the file") -> Any:
    """The tree in the bytes of a file.

    Args:
        content: the bytes.
        source: what they are called in errors.

    Returns:
        The tree; its arrays are JAX's, but for those of the host, which are NumPy's as they were.

    Raises:
        ValueError: for bytes that are damaged, foreign, of a newer format, or of classes that this
            process does not know, saying what was found.
    """
    header, members = _opened(content, source)
    try:
        expected = [HEADER, *(f"leaf_{i}.npy" for i in range(len(header["arrays"])))]
        if list(members) != expected:
            raise ValueError(f"it has members {_quoted(list(members))}, not {_quoted(expected)}")
        leaves = [
            _read(members[name], entry, name)
            for name, entry in zip(expected[1:], header["arrays"], strict=True)
        ]
        reader = _Reader(leaves)
        tree = reader.built(header["tree"])
        if reader.used != set(range(len(leaves))):
            raise ValueError(f"{len(leaves) - len(reader.used)} of its arrays belong to nothing")
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"
        raise ValueError(f"{source} has a header that makes no sense: {found}") from error
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    _warn_of_rounding(reader, source)
    return tree


def note_of(content: bytes, source: str = "the file") -> Any:
    """The note in the bytes of a file, or None. Raises as `from_bytes` does."""
    return _opened(content, source)[0].get("note")


@dataclasses.dataclass
class _Writer:
    """Takes a tree apart."""

    leaves: list[np.ndarray] = dataclasses.field(default_factory=list)
    table: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def described(self, value: Any, path: str) -> Any:
        """The value in JSON, arrays by number. What is not plain is a dict of one key, its kind."""
        finite = type(value) is float and math.isfinite(value)
        # the shortest decimals give the same double back; JSON has no infinity
        if value is None or type(value) in (bool, int, str) or finite:
            return value
        if type(value) is float:
            return {"float": str(value)}
        if isinstance(value, Array | np.ndarray | np.generic):
            return {"leaf": self.leaf(value, path)}
        return self.composed(value, path)

    def composed(self, value: Any, path: str) -> dict[str, Any]:
        """A container, a class, or an object."""
        if type(value) in (tuple, list):
            parts = [self.described(one, f"{path}[{i}]") for i, one in enumerate(value)]
            return {type(value).__name__: parts}
        if type(value) is dict:
            pairs = [
                [self.described(key, f"a key of {path}"), self.described(one, f"{path}[{key!r}]")]
                for key, one in value.items()
            ]
            return {"dict": pairs}
        if isinstance(value, type):
            return {"class": _known_class(value, path)}
        if (name := getattr(value, "known_as", None)) and KNOWN.get(name) is value:
            return {"known": name}
        return self.instance(value, path)

    def instance(self, value: Any, path: str) -> dict[str, Any]:
        """A dataclass or a member of an enumeration."""
        if isinstance(value, enum.Enum):
            return {"member": [_known_class(type(value), path), value.name]}
        remedy = getattr(value, "unknown_because", "")
        if remedy or not dataclasses.is_dataclass(value):
            remedy = remedy or "only arrays, numbers and known classes can be"
            raise TypeError(f"{path} is of {type(value).__name__} and cannot be saved: {remedy}")
        fields = {
            f.name: self.described(getattr(value, f.name), f"{path}.{f.name}")
            for f in dataclasses.fields(value)
        }
        return {"object": [_known_class(type(value), path), fields]}

    def leaf(self, value: Any, path: str) -> int:
        """The number of an array in the file."""
        kind = "device" if isinstance(value, Array) else "host"
        kind = "number" if isinstance(value, np.generic) else kind
        if kind == "device" and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            raise TypeError(f"{path} is a random key and cannot be saved: save what it drew")
        array = np.asarray(value)
        if array.dtype.hasobject or array.dtype.kind not in "biufcV":
            raise TypeError(f"{path} holds {array.dtype} and cannot be saved: only numbers can")
        entry = {"kind": kind, "dtype": array.dtype.name, "shape": list(array.shape)}
        self.table.append(entry)
        self.leaves.append(array)
        return len(self.leaves) - 1


@dataclasses.dataclass
class _Reader:
    """Puts a tree together."""

    leaves: list[tuple[np.ndarray, str]]
    used: set[int] = dataclasses.field(default_factory=set)
    rounded: int = 0
    lost: int = 0

    def built(self, described: Any) -> Any:
        """The value of a description."""
        if not isinstance(described, dict):
            return described
        ((kind, content),) = described.items()
        kinds = {
            "leaf": self._leaf,
            "object": self._object,
            "tuple": self._tuple,
            "list": self._list,
            "dict": self._dict,
            "float": float,
            "class": self._class,
            "member": self._member,
            "known": _found,
        }
        return kinds[kind](content)

    def _tuple(self, parts: list[Any]) -> tuple[Any, ...]:
        return tuple(map(self.built, parts))

    def _list(self, parts: list[Any]) -> list[Any]:
        return list(map(self.built, parts))

    def _dict(self, pairs: list[Any]) -> dict[Any, Any]:
        return {self.built(key): self.built(value) for key, value in pairs}

    def _class(self, name: str) -> type:
        found = _found(name)
        if not isinstance(found, type):
            raise ValueError(f"{name} is no class")
        return found

    def _member(self, content: list[str]) -> Any:
        return self._class(content[0])[content[1]]  # type: ignore[index]

    def _object(self, content: list[Any]) -> Any:
        name, values = content
        cls = self._class(name)
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if set(values) - set(fields):
            raise ValueError(f"{name} has no {sorted(set(values) - set(fields))} here")
        instance = object.__new__(cls)
        for field in fields.values():
            if field.name in values:
                value = self.built(values[field.name])
            elif field.default is not dataclasses.MISSING:
                # a later version may have added a field: what it does by default is as before
                value = field.default
            else:
                raise ValueError(f"{name} needs {field.name}, which it does not hold")
            # as for JAX's own unflattening: no constructor is called
            object.__setattr__(instance, field.name, value)
        return instance

    def _leaf(self, number: int) -> Any:
        array, kind = self.leaves[number]
        self.used.add(number)
        if kind == "host":
            return array
        if kind == "number":
            return array[()]
        dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        if dtype == array.dtype:
            return jnp.asarray(array)
        with np.errstate(over="ignore", under="ignore"):
            narrow = array.astype(dtype)
        if jnp.issubdtype(dtype, jnp.inexact):
            beyond = np.isfinite(array) & ~np.isfinite(narrow)
            self.rounded += 1
            self.lost += int(np.sum((array != 0) & (narrow == 0)))
        else:
            beyond = narrow != array
        if np.any(beyond):
            raise ValueError(
                f"it holds {array[beyond][0]}, which {dtype} cannot: enable 64 bits first, "
                "jax.config.update('jax_enable_x64', True)"
            )
        return jnp.asarray(narrow)


def _warn_of_rounding(reader: _Reader, source: str) -> None:
    if reader.rounded:
        lost = f", {reader.lost} of them to 0" if reader.lost else ""
        warnings.warn(
            f"{source} holds float64 and 64 bits are off: values were rounded to float32{lost}. "
            "For all their digits: jax.config.update('jax_enable_x64', True), then load again",
            stacklevel=4,
        )


def _opened(content: bytes, source: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The header, and all members by name, of bytes that are as they were written."""
    if not content:
        raise ValueError(f"{source} is empty")
    # the name of the first member, at its place in a zip archive
    if content[30 : 30 + len(HEADER)] != HEADER.encode() or content[:2] != b"PK":
        raise ValueError(f"{source} is no file of {FORMAT}: {_foreign(content)}")
    body, written = content[:-DIGEST], content[-DIGEST:]
    if _digest(body) != written:
        raise ValueError(
            f"{source} is truncated or damaged: its {len(content)} bytes have the checksum "
            f"{_digest(body).decode()[:12]}..., and end with {_quoted(written[:12])}...: take "
            "another copy, or save it anew"
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
            raise ValueError(f"{source} has compressed members, which this format has not")
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members[HEADER])
    found = (header.get("format"), header.get("version"))
    if found[0] != FORMAT or not isinstance(found[1], int):
        raise ValueError(f"{source} is no file of {FORMAT}: its header says {_quoted(found)}")
    if found[1] > VERSION:
        raise ValueError(
            f"{source} has format {found[1]}, written by otmix_jax {header.get('otmix_jax')}; this "
            f"is otmix_jax {__version__}, which reads formats up to {VERSION}: upgrade it"
        )
    return header, members


def _foreign(content: bytes) -> str:
    """What bytes are that are none of ours."""
    if content[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return f"a zip or npz archive of {_quoted(archive.namelist())}"
        except zipfile.BadZipFile:
            return "a damaged zip archive"
    return f"it begins with {_quoted(content[: LONGEST // 2])}"


def _found(name: str) -> Any:
    try:
        return find(name)
    except KeyError:
        module = name.partition(":")[0]
        raise ValueError(
            f"it holds {_quoted(name)}, which is not known here: import {module} first, or run "
            "what makes it"
        ) from None


def _known_class(cls: type, path: str) -> str:
    name = name_of(cls)
    if KNOWN.get(name) is not cls:
        why = "was defined again since" if name in KNOWN else "is no pytree"
        raise TypeError(f"{path} is of {name}, which {why}, and cannot be saved")
    return name


def _npy(array: np.ndarray) -> bytes:
    if array.dtype.kind == "V":  # bfloat16 and its like, which the format does not know
        array = array.view(f"u{array.dtype.itemsize}")
    buffer = io.BytesIO()
    little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    np.lib.format.write_array(buffer, little, (1, 0), allow_pickle=False)
    return buffer.getvalue()


def _read(content: bytes, entry: dict[str, Any], name: str) -> tuple[np.ndarray, str]:
    """An array, and where it was. Nothing is allocated for a size that is only declared."""
    buffer = io.BytesIO(content)
    if np.lib.format.read_magic(buffer) != (1, 0):
        raise ValueError(f"{name} is of another npy format")
    shape, fortran, stored = np.lib.format.read_array_header_1_0(buffer)
    dtype, held = jnp.dtype(entry["dtype"]), content[buffer.tell() :]
    kind = stored.kind if dtype.kind != "V" else dtype.kind  # as `_npy` stores it
    found, said = (kind, stored.itemsize, list(shape)), (dtype.kind, dtype.itemsize, entry["shape"])
    if found != said or fortran or stored.hasobject:
        raise ValueError(
            f"{name} is {stored} {list(shape)}, and the header says {dtype} {entry['shape']}"
        )
    if len(held) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} declares {shape} of {stored}, and holds {len(held)} bytes")
    if entry["kind"] not in ("device", "host", "number"):
        raise ValueError(f"{name} is of kind {_quoted(entry['kind'])}")
    little = stored if dtype.kind != "V" else dtype
    array = np.frombuffer(held, little).reshape(shape)
    return array.astype(dtype.newbyteorder("=")), entry["kind"]


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _quoted(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."
