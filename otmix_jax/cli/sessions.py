"""What every command does first, and what it shows while it runs."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..core import cache
from .errors import Refusal


def begin(told: Any) -> Path | None:
    """Sets 64 bits, and the cache of compiled programs, which is on unless switched off.

    Rows of float32 are still fitted in float32.

    Returns:
        The folder of the cache, or None.

    Raises:
        Refusal: for a folder that cannot be written, or two wishes at once.
    """
    jax.config.update("jax_enable_x64", True)
    if told.cache and told.no_cache:
        raise Refusal("--cache and --no-cache exclude one another: leave one out")
    if told.no_cache:
        return None
    try:
        if told.cache:
            return cache.compilation_cache(told.cache)
        # a cache that cannot be had is a warning there
        return cache.from_environment("1")
    except OSError as error:
        raise Refusal(f"--cache {told.cache}: {error.strerror}, or --no-cache") from None


@contextlib.contextmanager
def progress(told: Any) -> Iterator[Callable[[Any], None] | None]:
    """A callback for fits that shows steps, value and time left; None where nobody looks.

    Of a pipe or a file nothing is shown, nor of --quiet.
    """
    if told.quiet or not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, refresh_per_second=8) as bar:
        task = bar.add_task("compiling", total=None, told="")

        def show(report: Any) -> None:
            value = "" if report.value != report.value else f", {report.value:.6g} nats per row"
            runs = f"{report.done}" if report.total is None else f"{report.done}/{report.total}"
            bar.update(
                task,
                description=report.stage or "fit",
                completed=report.done,
                total=report.total,
                told=f"{runs} runs, {report.n_steps} steps{value}",
            )

        yield show
