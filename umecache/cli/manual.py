"""`--help` as a manual page: usage, purpose, examples, options in groups, exit status, files, environment.

    umecache fuse --help

One text serves the terminal and docs/reference-commands.md (scripts/write_reference.py). A command's purpose is the
first paragraph of its docstring; what is indented below "Example:" are its examples. Plain text, laid out here rather
than by Rich: it reads the same at any width and in a pipe, and `--help` need not load Rich.
"""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

WIDEST = 100  # columns: longer lines are hard to read
NAMES = 34  # columns that names may take before their text goes to the next line
Rows = list[tuple[str, str]]

TRAINING: Mapping[str, str] = {
    "Data and features": "data text image features train_split eval_split limit label_limit shuffle_images",
    "Method": "method methods method_arg baseline init recipe width dropout objectives mask_share",
    "Training": "seeds seed stack_seeds epochs lr lr_grid schedule warmup optimizer weight_decay clip batch_size "
    "accumulate ema loss patience holdout order window order_seed",
    "Answers and scores": "classes min_count protocol",
    "Machine": "devices ray threads precision residency checkpoint_minutes",
    "Output": "out overwrite update tracker json help",
}
ENCODING: Mapping[str, str] = {
    "Inputs": "data split limit",
    "Encoders": "model recipe weights layers model_arg",
    "Preprocessing": "image_size mean std crop max_length",
    "Stores": "store store_format dtype shard_records retry_failed strict ignore_space",
    "Machine": "devices batch_size workers precision compile_ channels_last epochs",
    "Output": "log tracker json help",
}
GROUPS = {"fuse": TRAINING, "compare": TRAINING, "pretrain": TRAINING, "extract": ENCODING, "plan": ENCODING}
"""Of the commands with more options than fit one list."""

WORDS = {
    "data": "DIR|NAME",
    "dataset": "NAME",
    "text": "STORE",
    "image": "STORE",
    "features": "NAME=STORE",
    "method_arg": "KEY=VALUE",
    "model_arg": "KEY=VALUE",
    "method": "NAME",
    "methods": "NAMES",
    "model": "NAME",
    "baseline": "METHOD",
    "init": "RUN",
    "question": "TEXT",
    "out": "DIR",
    "weights": "PATH",
    "mean": "X,X,X",
    "std": "X,X,X",
    "only": "KINDS",
    "by": "WHAT",
    "parts": "NAMES",
    "sample": "SHARE",
    "base_url": "URL",
    "lr_grid": "RATES",
    "lr": "RATE",
    "ray": "HOST:PORT",
}
"""What stands for the value of an option of text, where the last word of its own name would not do."""

EPILOGUE: Mapping[str, Rows] = {
    "Exit status": [
        ("0", "Done."),
        ("1", "The job failed, or a check found damage."),
        ("2", "Bad usage or bad input; one line says what, why and what to run next."),
    ],
    "Files, below UMECACHE_HOME": [
        ("data/NAME", "Data sets."),
        ("stores/DATASET/MODEL-RECIPE/SPLIT", "Feature stores."),
        ("runs/DATASET/NAME", "Runs and comparisons."),
    ],
    "Environment": [
        ("UMECACHE_HOME", "One home, or several in order, separated by colons. Default: ~/.cache/umecache."),
        ("UMECACHE_CACHE", "What is read from afar is kept here. Default: cache/ in the home."),
        ("UMECACHE_CACHE_SIZE", "How much of it. Default: 20GB."),
        (
            "UMECACHE_URLS",
            "URLs with their secrets (?token=, a password), for all that lies below them; spaces between.",
        ),
        ("UMECACHE_PAIRS", "The pair stage's implementation, asked for by name."),
        ("HF_HOME, HF_HUB_OFFLINE", "The Hugging Face hub's files; 1: stay off the network."),
    ],
}


class Command(TyperCommand):
    """A command whose help is a manual page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(page(self, ctx))


class Group(TyperGroup):
    """A group of commands whose help is a manual page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(page(self, ctx))


def page(command: Any, ctx: Any, width: int | None = None) -> str:
    """The manual page of a command, bold words as ANSI codes (which `typer.echo` leaves out of pipes and files)."""
    columns = min(width or shutil.get_terminal_size().columns, WIDEST)
    purpose, details, examples = parts(command)
    blocks = [
        f"Usage: {usage(command, ctx)}",
        _wrapped(purpose, columns),
        *(_wrapped(text, columns) for text in details),
    ]
    if examples:
        blocks.append(_section("Examples", _example_lines(examples, columns)))
    for title, rows in [*sections(command, ctx), *EPILOGUE.items()]:
        blocks.append(_section(title, _listed(rows, columns)))
    text = "\n\n".join(blocks) + "\n"
    return re.sub(r"`([^`]+)`", lambda match: typer.style(match[1], bold=True), text)


def parts(command: Any) -> tuple[str, list[str], list[str]]:
    """Purpose, further paragraphs, and example lines of a command's docstring."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    examples = [line[4:] for text in paragraphs for line in text.splitlines() if text.startswith("    ")]
    prose = [" ".join(text.split()) for text in paragraphs if not text.startswith("    ") and text != "Example:"]
    return prose[0], prose[1:], examples


def usage(command: Any, ctx: Any) -> str:
    """How it is called, on one line."""
    words = [ctx.command_path, "[OPTIONS]"]
    for each in _params(command, ctx, "argument"):
        word = name_of(each)
        words.append(word if each.required else f"[{word}]")
    return " ".join([*words, *(["COMMAND", "..."] if hasattr(command, "commands") else [])])


def sections(command: Any, ctx: Any) -> Iterator[tuple[str, Rows]]:
    """Titles and rows: commands, arguments, options in their groups."""
    if hasattr(command, "commands"):
        yield "Commands", [(name, parts(command.commands[name])[0]) for name in command.list_commands(ctx)]
    hints = get_type_hints(inspect.unwrap(command.callback)) if command.callback else {}
    arguments = [(name_of(each), help_of(each)) for each in _params(command, ctx, "argument")]
    if arguments:
        yield "Arguments", arguments
    options = {each.name: (_option(each, hints), help_of(each)) for each in _params(command, ctx, "option")}
    for title, names in GROUPS.get(command.name, {}).items():
        rows = [options.pop(name) for name in names.split() if name in options]
        if rows:
            yield title, rows
    if options:
        yield "Options", list(options.values())


def name_of(argument: Any) -> str:
    """An argument as the usage line names it."""
    return str(argument.metavar or argument.name.upper())


def help_of(param: Any) -> str:
    """What is said of an argument or option, with its default."""
    text = " ".join((getattr(param, "help", None) or "").split())
    default = param.default
    known = default is not None and default is not False and default not in ((), []) and param.show_default
    if param.required and param.param_type_name == "option":
        text += " Required."
    return text + (f" Default: {default}." if known and not callable(default) else "")


def _option(param: Any, hints: Mapping[str, Any]) -> str:
    spelled = ", ".join(sorted([*param.opts, *param.secondary_opts], key=len))
    own = max(param.opts, key=len).strip("-").replace("-", "_")  # --split, where the parameter is called source
    return spelled if param.is_flag else f"{spelled} {param.metavar or _word(own, hints.get(param.name, str))}"


def _word(name: str, hint: Any) -> str:
    """What stands for an option's value: N a whole number, X any, PATH; else a word."""
    kinds = {hint, *get_args(hint), *(inner for each in get_args(hint) for inner in get_args(each))}
    for kind, word in ((int, "N"), (float, "X"), (Path, "PATH")):
        if kind in kinds:
            return word
    return WORDS.get(name, name.rpartition("_")[2].upper())


def _params(command: Any, ctx: Any, kind: str) -> list[Any]:
    every = command.get_params(ctx)
    return [each for each in every if each.param_type_name == kind and not getattr(each, "hidden", False)]


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([typer.style(title, bold=True), *lines])


def _example_lines(examples: Sequence[str], columns: int) -> Iterator[str]:
    """Long commands go on behind a backslash, as a shell takes them; an option stays with its value."""
    for line in examples:
        folded = [""]
        for part in re.split(r" (?=--)", line):
            if folded[-1] and len(folded[-1]) + len(part) > columns - 5:
                folded.append(f"    {part}")
            else:
                folded[-1] = f"{folded[-1]} {part}" if folded[-1] else part
        yield " \\\n".join(f"  {part}" for part in folded)


def _listed(rows: Rows, columns: int) -> Iterator[str]:
    """Names, and beside or below them what is said."""
    at = min(max(len(name) for name, _ in rows), NAMES) + 4
    for name, text in rows:
        lines = textwrap.wrap(text, columns - at, break_long_words=False, break_on_hyphens=False) or [""]
        if len(name) > at - 4:
            yield f"  {name}"
        else:
            yield f"  {name:<{at - 2}}{lines.pop(0)}".rstrip()
        yield from (" " * at + line for line in lines)


def _wrapped(text: str, columns: int) -> str:
    return textwrap.fill(text, columns, break_long_words=False, break_on_hyphens=False)
