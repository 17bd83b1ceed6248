"""Put the verbs together and turn errors into messages and exit codes."""

import importlib
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import typer

from finetune import __version__
from finetune.console import lasting_streams
from finetune.errors import FinetuneError
from finetune.ranks import OtherRankFailed, is_main

# The order of the help. A verb is the function of that name in finetune/cli/<verb>.py (`list` in list_.py).
VERBS = (
    "run", "sweep", "study", "validate", "inspect", "estimate", "list", "show", "compare", "check", "predict",
    "evaluate", "audit", "push", "export", "init", "recipes", "schema", "doctor", "clean",
)  # fmt: skip
MODULES = {"list": "list_"}


def build_app() -> typer.Typer:
    """Return the Typer application with every verb."""
    app = typer.Typer(
        name="finetune",
        help="Fine-tune a pretrained transformer and see what it cost: energy and CO2e beside accuracy.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    for verb in VERBS:
        module = importlib.import_module(f"finetune.cli.{MODULES.get(verb, verb)}")
        function = getattr(module, MODULES.get(verb, verb))
        app.command(verb)(function)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"finetune {__version__}")
        raise typer.Exit()


def _global_options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 1 a FinetuneError, 2 usage, 3 a check that failed, 70 our bug (with its traceback), 130 Ctrl-C,
    143 SIGTERM, 129 a lost terminal.
    """
    with lasting_streams(), _ctrl_c_noted() as ctrl_c:
        return _run_command(arguments, ctrl_c)


@contextmanager
def _ctrl_c_noted() -> Iterator[list[int]]:
    """Yield a list that each Ctrl-C is added to, besides its KeyboardInterrupt.

    Extension modules (numpy in torch) swallow it while they are imported, and fail with something else afterwards.
    """
    noted: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        noted.append(signum)
        signal.default_int_handler(signum, frame)

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _run_command(arguments: Sequence[str] | None, ctrl_c: Sequence[int]) -> int:
    try:
        try:
            build_app()(args=list(sys.argv[1:] if arguments is None else arguments))
        finally:
            sys.stdout.flush()  # a result that cannot be written is an error here, not at Python's end
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else 0 if exit_request.code is None else 1
    except OtherRankFailed as error:
        if is_main():
            print_error(error)
        return 1
    except FinetuneError as error:
        print_error(error)
        return 1
    except Exception as error:
        if ctrl_c:
            return 130
        if isinstance(error, OSError) and error.filename is not None:  # a file or folder that may not be touched
            reason = f"{error.filename}: {error.strerror}"
            print_error(FinetuneError(reason, "Look at the path, and at who may read or write it."))
            return 1
        traceback.print_exc()
        typer.echo("This is a bug in finetune. Please report it with the lines above.", err=True)
        return 70
    return 0


def print_error(error: FinetuneError) -> None:
    """Print an error and its hint on stderr."""
    typer.echo(f"error: {error.message}", err=True)
    if error.hint:
        typer.echo(f"hint: {error.hint}", err=True)


def entry_point() -> None:
    """Start the console script."""
    sys.exit(main())
