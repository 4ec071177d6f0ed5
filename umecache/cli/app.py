"""The `umecache` command: one module of this folder per command, errors turned into words.

    umecache --help

Exit status: 0 done; 1 the job failed or a check found damage; 2 bad usage or bad input.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

import typer
import typer.main

from umecache.cli.manual import Command, Group
from umecache.cli.memory import steady_memory
from umecache.cli.output import emit_error
from umecache.errors import JobFailed, UmecacheError, UsageError

# Command -> where it lives. The modules are light: what is heavy is imported when a command runs.
COMMANDS = {
    "demo": "umecache.cli.demo:demo",
    "data": "umecache.cli.data:app",
    "plan": "umecache.cli.plan:plan",
    "extract": "umecache.cli.extract:extract",
    "pretrain": "umecache.cli.pretrain:pretrain",
    "fuse": "umecache.cli.fuse:fuse",
    "compare": "umecache.cli.compare:compare",
    "report": "umecache.cli.report:report",
    "predict": "umecache.cli.predict:predict",
    "explain": "umecache.cli.explain:explain",
    "score": "umecache.cli.score:score",
    "store": "umecache.cli.store:app",
    "doctor": "umecache.cli.doctor:doctor",
    "models": "umecache.cli.models:models",
    "methods": "umecache.cli.methods:methods",
}

ABOUT = """Cache frozen encoders once, compare multimodal fusion methods in minutes.

    Example:

        umecache demo
        umecache extract --model deberta-v3 --model vit --data vqa-v2
        umecache compare --methods text-only,concat,ume --seeds 3
    """

INTERRUPTED = 130  # what Typer makes of Ctrl-C inside a command

# Typer carries its own copy of click in newer versions; its public exception leads to the base class in either case.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


class Front(Group):
    """All commands, in the order of the work rather than single commands first and groups behind them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if name in self.commands]


def build() -> typer.Typer:
    """The application with every command."""
    app = typer.Typer(
        name="umecache",
        help=ABOUT,
        no_args_is_help=True,
        cls=Front,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_common)
    for name, target in COMMANDS.items():
        command = resolve_name(target)
        if isinstance(command, typer.Typer):
            for each in command.registered_commands:
                each.cls = Command
            app.add_typer(command, name=name, cls=Group)
        else:
            app.command(name=name, cls=Command)(command)
    return app


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    json = "--json" in argv
    failure: UmecacheError
    try:
        status = typer.main.get_command(build()).main(list(argv), prog_name="umecache", standalone_mode=False)
        if status != INTERRUPTED:
            return status if isinstance(status, int) else 0
        failure = _stopped()
    except UmecacheError as error:
        failure = error
    except _CommandLineError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(getattr(error, "message", error), err=True)
            return 2
        failure = _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        failure = _stopped()
    except BrokenPipeError:
        # The reader went away (`umecache ... | head`): nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ImportError, OSError, RuntimeError) as error:
        broken = _broken_package(error)
        if broken is None:
            raise
        failure = broken
    emit_error(failure, json=json)
    return failure.exit_status


def main() -> None:
    """The console script."""
    steady_memory()
    sys.exit(run(sys.argv[1:]))


def _stopped() -> UmecacheError:
    return JobFailed("Stopped.", why="What was finished is kept.", next="run the same command again to go on")


def _broken_package(error: Exception) -> UmecacheError | None:
    """A package of others that can't be imported is no bug of ours, and `doctor` knows what to do about it.

    Of torch and torchvision that don't match, ImportError is only one of the forms.
    """
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    name = getattr(error, "name", None) or ""
    if isinstance(error, ImportError):
        if name.partition(".")[0] in ("", "umecache"):
            return None
        what = f"The package {name.partition('.')[0]!r} can't be imported."
    elif "torchvision::" in said:
        what = "torch and torchvision don't match."
    elif "cannot open shared object file" in said:
        what = "A library that a package needs is not there."
    else:
        return None
    return JobFailed(what, why=f"{said}.", next="umecache doctor")


def _usage(error: Exception) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "umecache"
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    return UsageError(message, next=f"{path} --help")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"umecache {version('umecache')}\n")
        raise typer.Exit


def _common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass
