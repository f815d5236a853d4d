"""How answers show themselves: one line in a console, a small table in a notebook.

Nothing here raises, computes under `jit`, or knows a class: what is no number yet has a shape.
"""

import dataclasses
import functools
import html
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from .status import Status

MOST = 6
"""Numbers that a line has room for."""
BAR = "background:#0072B2;height:.7em;display:inline-block;vertical-align:middle"
COLOURS = {True: "#009E73", False: "#D55E00"}
"""Of a status that is healthy, and of one that is not; told apart by the colour-blind too."""
CELL = "text-align:right;padding:.1em .6em"


def harmless(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """A representation that gives the fields where leaves are no arrays, but what JAX, or an axis
    specification, has in their place: a debugger must not fail at it.
    """

    @functools.wraps(show)
    def safe(self: Any) -> str:
        try:
            return show(self)
        except Exception:
            fields = ((f.name, getattr(self, f.name, None)) for f in dataclasses.fields(self))
            shown = ", ".join(f"{name}={value!r}" for name, value in fields)
            return f"{type(self).__name__}({shown})"

    return safe


def optional(show: Callable[[Any], str]) -> Callable[[Any], str | None]:
    """A page, or None where it cannot be made: a notebook then shows the line."""

    @functools.wraps(show)
    def safe(self: Any) -> str | None:
        try:
            return show(self)
        except Exception:
            return None

    return safe


def known(leaf: Any) -> np.ndarray | None:
    """The numbers of a leaf, if it has them by now."""
    if leaf is None or isinstance(leaf, Tracer | jax.ShapeDtypeStruct):
        return None
    array = np.asarray(leaf)
    return None if array.dtype.hasobject else array


def brief(leaf: Any, digits: int = 3) -> str:
    """A few numbers, or else the shape."""
    found = known(leaf)
    if found is None:
        return f"{leaf.dtype}{list(leaf.shape)}"
    if found.ndim == 0:
        return f"{found.item():.{digits + 3}g}"
    text = " ".join(f"{one:.{digits}g}" for one in found.reshape(-1)[:MOST])
    return f"[{text}{' ...' if found.size > MOST else ''}]"


def law(components: Any) -> str:
    """What components are, such as "3 x Gaussian(covariance=Full), d=2"."""
    described, own = str(components.described()), type(components).__name__
    # a wrapper describes what is in it
    whole = described if described.startswith(own) else f"{own} {described}"
    width = components.n_features
    return f"{components.n_components} x {whole}" + (f", d={width}" if width else "")


def batch_of(log_weights: Any) -> str:
    """The axes in front of a batch's, if it is one."""
    shape = np.shape(log_weights)[:-1]
    return f", batch of {' x '.join(map(str, shape))}" if shape else ""


def outcomes(status: Any) -> str:
    """A status by its name; of many, how many ended in each way."""
    found = known(status)
    if found is None:
        return f"status {status.dtype}{list(status.shape)}"
    if found.ndim == 0:
        return Status(int(found)).name
    names, counts = np.unique(found, return_counts=True)
    return ", ".join(f"{n} {Status(int(one)).name}" for one, n in zip(names, counts, strict=True))


def escaped(text: Any) -> str:
    """Text that is nothing but text in a page."""
    return html.escape(str(text))


def status_line(status: Any) -> str:
    """The name in colour and the remedy, for a notebook; one for each way to end."""
    found = known(status)
    if found is None:
        return escaped(outcomes(status))
    lines = []
    for code in np.unique(found):
        one = Status(int(code))
        count = f"{np.sum(found == code)} " if found.ndim else ""
        colour = COLOURS[one.healthy and one != Status.MAX_STEPS]
        name = f'<b style="color:{colour}">{count}{one.name}</b>'
        lines.append(f"{name} {escaped(one.remedy)}".strip())
    return "<br>".join(lines)


def bar(share: float) -> str:
    """A proportion as a bar and a number."""
    width = 0.0 if not np.isfinite(share) else min(max(share, 0.0), 1.0)
    return f'<span style="{BAR};width:{5 * width:.2f}em"></span> {share:.3f}'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the head is text, the cells are HTML."""
    tags = "".join(f'<th style="{CELL}">{escaped(one)}</th>' for one in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{CELL}">{cell}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{tags}</tr></thead><tbody>{body}</tbody></table>"


def page(title: str, *parts: str) -> str:
    """A title, which is text, above parts in HTML."""
    return (
        f"<div><b>{escaped(title)}</b>" + "".join(f"<div>{part}</div>" for part in parts) + "</div>"
    )
