"""The entry of `otmix-jax`: parses, runs, and turns what happens into an exit code."""

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer

from .commands import app
from .errors import Exit, Interrupted, Refusal

NAME = "otmix-jax"
SPELLED = {
    'missing="ignore"': "--missing ignore",
    "n_components": "--components",
    "sample_weight": "--weights",
    "max_steps": "--max-steps",
    "tolerance": "--tolerance",
    "n_init": "--n-init",
    "n_folds": "n_folds",
    "time_limit": "--time-limit",
    "leave ridge=None": "leave out --ridge",
    "starts=Starts(initial=mixture)": "--initial MODEL",
}
"""What the library calls an argument, and the option of a command."""
_Usage: Any = typer.BadParameter.__base__
_Stopped: Any = _Usage.__base__
"""The parser's own exceptions, which have no public name."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits.

    Args:
        arguments: without the program's name; None is those of the process.

    Raises:
        SystemExit: always, with a code of `Exit`.
    """
    sys.exit(int(_code(arguments)))


def _run(arguments: Sequence[str] | None) -> int:
    """Parses, and does what the command asks for."""
    with warnings.catch_warnings():
        _say_warnings_in_one_line()
        command = typer.main.get_command(app)
        given = None if arguments is None else list(arguments)
        found = command.main(given, prog_name=NAME, standalone_mode=False)
    return found if isinstance(found, int) else Exit.OK


def _code(arguments: Sequence[str] | None) -> int:
    """The exit code, whatever happens; what stopped a command is said in one line."""
    try:
        return _run(arguments)
    except _Stopped as error:
        return _refuse(_usage(error))
    except Refusal as error:
        return _refuse(str(error))
    except (Interrupted, KeyboardInterrupt, typer.Abort):
        _say("interrupted before there was an answer: nothing was written")
        return Exit.INTERRUPTED
    except (ValueError, TypeError, ImportError, MemoryError, RuntimeError) as error:
        _say(_spelled(_one_line(error)) or type(error).__name__)
        # by name, as its class would bring JAX
        failed = type(error).__name__ == "FitError" or isinstance(error, RuntimeError | MemoryError)
        return Exit.FAILED if failed else Exit.REFUSED


def _refuse(message: str) -> int:
    _say(message)
    return Exit.REFUSED


def _say(message: str) -> None:
    print(f"{NAME}: {message}", file=sys.stderr)


def _usage(error: Any) -> str:
    """What the parser has to say, and where help is."""
    context = getattr(error, "ctx", None)
    path = NAME if context is None else context.command_path
    message = _one_line(error.format_message()).rstrip(".")
    return f"{message}; see {path} --help"


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())


def _spelled(message: str) -> str:
    for name, option in SPELLED.items():
        message = message.replace(name, option)
    return message


def _say_warnings_in_one_line() -> None:
    """Warnings of the library, each once; those of others about their own code are not shown."""
    warnings.simplefilter("ignore")
    for kind in (UserWarning, RuntimeWarning):
        warnings.simplefilter("always", kind)

    def show(message: Any, *_: Any, **__: Any) -> None:
        _say(f"warning: {_spelled(_one_line(message))}")

    warnings.showwarning = show


if __name__ == "__main__":
    main()
