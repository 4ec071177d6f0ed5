"""Write the two reference pages of the documentation from what the code says of itself.

    python scripts/write_reference.py            # docs/reference-commands.md, docs/reference-python.md; not committed

Commands: every command's own help, from the real command line. Python: the public names of `umecache`, their signatures
and docstrings, read from the sources without running them (so neither torch nor a second is needed).
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):")
ITEM = re.compile(r"(\**\w+(?:, \**\w+)*): (.*)", re.DOTALL)


def main(folder: Path) -> None:
    """Write both pages into `folder`."""
    (folder / "reference-commands.md").write_text(commands_page(), encoding="utf-8")
    (folder / "reference-python.md").write_text(python_page(), encoding="utf-8")


def commands_page() -> str:
    """Every command with its purpose, its examples, its arguments and options; once what all of them share."""
    from umecache.cli.app import build
    from umecache.cli.manual import EPILOGUE

    root = typer.main.get_command(build())
    parts = ["# Commands\n\nWhat `umecache COMMAND --help` says, all on one page.\n"]
    for context, command in walk(root, root.make_context("umecache", [], resilient_parsing=True)):
        path = context.command_path.split()
        parts.append(f"{'#' * max(len(path), 2)} {' '.join(path)}\n")
        parts += command_parts(command, context)
    parts.append("## What all commands share\n")
    parts += [table(title, rows) for title, rows in EPILOGUE.items()]
    return "\n".join(parts)


def walk(command: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """Each command below `command` with its context, a group before its members."""
    yield context, command
    for name in command.list_commands(context) if hasattr(command, "commands") else ():
        inner = command.commands[name]
        yield from walk(inner, inner.make_context(name, [], parent=context, resilient_parsing=True))


def command_parts(command: Any, context: Any) -> Iterator[str]:
    """One command: usage, prose, examples, tables."""
    from umecache.cli.manual import parts, sections, usage

    purpose, details, examples = parts(command)
    yield f"```text\n{usage(command, context)}\n```\n"
    yield from (f"{text}\n" for text in (purpose, *details))
    if examples:
        yield "```bash\n" + "\n".join(examples) + "\n```\n"
    for title, rows in sections(command, context):
        yield table(title, [row for row in rows if row[0] != "-h, --help"])


def table(title: str, rows: list[tuple[str, str]]) -> str:
    """Names and what is said of them, below a title; empty where there are none."""
    lines = [f"| `{cell(name)}` | {cell(text)} |" for name, text in rows]
    return "\n".join([f"| {title} | |", "|---|---|", *lines, ""]) if rows else ""


def cell(text: str) -> str:
    """Text that can stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def python_page() -> str:
    """The public names of `umecache`, alphabetically."""
    head = (
        "# Python\n\nWhat `import umecache` offers. Names are loaded when they are first used; "
        "[how to use them](api.md) is told elsewhere.\n"
    )
    return "\n".join([head, *(entry(*found) for found in sorted(public_names(), key=lambda found: found[0]))])


def public_names() -> Iterator[tuple[str, str, ast.stmt]]:
    """Name, module and definition of everything that `umecache/__init__.py` offers."""
    for name, module in offered(ROOT / "umecache/__init__.py"):
        yield find(name, module)


def offered(file: Path) -> Iterator[tuple[str, str]]:
    """Name and module of the lazy names of a package: what it imports for type checkers."""
    for statement in ast.parse(file.read_text("utf-8")).body:
        if isinstance(statement, ast.If) and isinstance(statement.test, ast.Name):  # if TYPE_CHECKING
            for line in statement.body:
                if isinstance(line, ast.ImportFrom) and line.module and line.module.startswith("umecache"):
                    yield from ((alias.asname or alias.name, line.module) for alias in line.names)


def find(name: str, module: str) -> tuple[str, str, ast.stmt]:
    """The definition of a name, through packages and modules that hand it on.

    Raises:
        LookupError: it isn't there.
    """
    base = ROOT / module.replace(".", "/")
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name and node in tree.body:
            return name, module, node
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            return find(name, node.module)
    raise LookupError(f"{module} has no {name}")


def entry(name: str, module: str, node: ast.stmt) -> str:
    """One name: signature, docstring, and a class's public methods."""
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    parts = [f"## {name}\n", f"```text\n{signature(node)}\n```\n", docstring(node), f"Defined in `{module}`.\n"]
    for member in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(member, ast.FunctionDef) and ast.get_docstring(member) and not member.name.startswith("_"):
            parts += [f"### {name}.{member.name}\n", f"```text\n{signature(member)}\n```\n", docstring(member)]
    return "\n".join(parts)


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """How it is called, one line where that fits."""
    if isinstance(node, ast.ClassDef):
        made = next((m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "__init__"), None)
        if made is None:
            fields = [m for m in node.body if isinstance(m, ast.AnnAssign)]
            data = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
            return laid_out(f"class {node.name}", [ast.unparse(field) for field in fields] if data else [], "")
        return laid_out(f"class {node.name}", arguments(made), "")
    kind = "property " if any(ast.unparse(each) == "property" for each in node.decorator_list) else ""
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return kind + (f"{node.name}{result}" if kind else laid_out(node.name, arguments(node), result))


def arguments(node: ast.FunctionDef) -> list[str]:
    """Parameters with types and defaults, without `self`."""
    spec = node.args
    plain = [*spec.posonlyargs, *spec.args]
    without = len(plain) - len(spec.defaults)
    parts = [parameter(arg, None) for arg in plain[:without]]
    parts += [parameter(arg, default) for arg, default in zip(plain[without:], spec.defaults, strict=True)]
    if spec.vararg or spec.kwonlyargs:
        parts.append(f"*{parameter(spec.vararg, None) if spec.vararg else ''}")
    parts += [parameter(arg, default) for arg, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    if spec.kwarg:
        parts.append(f"**{parameter(spec.kwarg, None)}")
    return parts[1:] if plain and plain[0].arg in ("self", "cls") else parts


def parameter(arg: ast.arg, default: ast.expr | None) -> str:
    """One parameter with its type and default."""
    typed = f"{arg.arg}: {ast.unparse(arg.annotation)}" if arg.annotation else arg.arg
    equals = " = " if arg.annotation else "="
    return f"{typed}{equals}{ast.unparse(default)}" if default is not None else typed


def laid_out(head: str, parts: list[str], tail: str) -> str:
    """A call on one line, or a line for each parameter."""
    line = f"{head}({', '.join(parts)}){tail}" if parts or tail else head
    return line if len(line) <= 88 else f"{head}(\n    " + ",\n    ".join(parts) + f",\n){tail}"


def docstring(node: ast.FunctionDef | ast.ClassDef) -> str:
    """A docstring in Markdown: sections become lists."""
    lines: list[str] = []
    section = False
    for line in (ast.get_docstring(node) or "").splitlines():
        heading = SECTION.fullmatch(line.strip())
        if heading:
            section = True
            lines += ["", f"**{heading[1]}**", ""]
        elif section and line.strip():
            item = ITEM.fullmatch(line.strip())
            deeper = len(line) - len(line.lstrip()) > 4
            lines.append(f"- `{item[1]}`: {item[2]}" if item and not deeper else f"  {line.strip()}")
        else:
            section = section and not line.strip()
            lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
