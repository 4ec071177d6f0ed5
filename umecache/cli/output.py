"""Where commands write: one JSON document or words on standard output; progress and remarks on standard error."""

from __future__ import annotations

import json as json_format
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from umecache.errors import UmecacheError
    from umecache.reporting import Reporter, Task

PLAIN_SECONDS = 5.0  # between two progress lines where the output is no terminal


def emit(document: Mapping[str, Any], *, json: bool, words: Callable[[], None] | None = None) -> None:
    """Print `document` as the one JSON document of this command, or run `words` to say the same in words."""
    if json:
        sys.stdout.write(json_format.dumps(_strict(document), indent=2, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    elif words is not None:
        words()


def emit_error(error: UmecacheError, *, json: bool) -> None:
    """The error as a JSON document on standard output, or as one line on standard error."""
    if json:
        emit({"error": error.as_json()}, json=True)
        return
    said = [" ".join(part.split()) for part in (error.what, error.why) if part]
    parts = [part if part.endswith((".", "!", "?")) else f"{part}." for part in said]
    parts += [f"Next: {' '.join(error.next.split())}"] if error.next else []
    sys.stderr.write(f"error: {' '.join(parts)}\n")


def console(*, stderr: bool = False) -> Console:
    """A Rich console; tables go to standard output, progress to standard error."""
    from rich.console import Console

    wide = None if (sys.stderr if stderr else sys.stdout).isatty() else 120  # files and pipes: don't fold at 80
    return Console(stderr=stderr, width=wide, highlight=False)


def reporter(json: bool = False) -> Reporter:
    """Bars on a terminal, plain lines elsewhere; always on standard error."""
    shown = console(stderr=True)
    return BarReporter(shown) if shown.is_terminal else LineReporter()


def _strict(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value


def _fact(name: str, value: object) -> str:
    return f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class LineReporter:
    """Plain lines for logs: at most one every few seconds for each task, and one at its end."""

    def task(self, label: str, total: float | None, unit: str = "items") -> Task:
        return _LineTask(label, total, unit)

    def say(self, line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


class _LineTask:
    def __init__(self, label: str, total: float | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0.0
        self.facts: dict[str, object] = {}
        self.started = self.printed = time.monotonic()

    def advance(self, n: float = 1, **facts: object) -> None:
        self.done += n
        self.facts.update(facts)
        if time.monotonic() - self.printed >= PLAIN_SECONDS:
            self._print()

    def _print(self) -> None:
        now = time.monotonic()
        self.printed = now
        rate = self.done / max(now - self.started, 1e-9)
        parts = [f"{self.done:,.0f}" + (f"/{self.total:,.0f}" if self.total else "") + f" {self.unit}"]
        parts.append(f"{rate:,.1f} {self.unit}/s")
        if self.total and rate > 0 and self.done < self.total:
            parts.append(f"{_seconds((self.total - self.done) / rate)} left")
        parts += [_fact(name, value) for name, value in self.facts.items()]
        sys.stderr.write(f"{self.label}: {', '.join(parts)}\n")
        sys.stderr.flush()

    def __enter__(self) -> _LineTask:
        return self

    def __exit__(self, *exc: object) -> None:
        if time.monotonic() - self.started >= 2.0:  # anything shorter needs no line
            self._print()


class BarReporter:
    """Rich bars: count, rate, time left, and whatever facts the task tells. Tasks may nest; they share one display."""

    def __init__(self, shown: Console) -> None:
        self.console = shown
        self._live: Progress | None = None
        self._open = 0

    def task(self, label: str, total: float | None, unit: str = "items") -> Task:
        return _BarTask(self, label, total, unit)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def _enter(self) -> Progress:
        if self._live is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}", markup=False),
                console=self.console,
            )
            self._live.start()
        self._open += 1
        return self._live

    def _leave(self) -> None:
        self._open -= 1
        if self._open == 0 and self._live is not None:
            self._live.stop()
            self._live = None


class _BarTask:
    def __init__(self, reporter: BarReporter, label: str, total: float | None, unit: str) -> None:
        self.reporter, self.label, self.total, self.unit = reporter, label, total, unit
        self.progress: Progress | None = None
        self.task_id: TaskID | None = None
        self.done = 0.0
        self.facts: dict[str, object] = {}

    def __enter__(self) -> _BarTask:
        self.progress = self.reporter._enter()
        self.task_id = self.progress.add_task(self.label, total=self.total, facts="")
        self.started = time.monotonic()
        return self

    def advance(self, n: float = 1, **facts: object) -> None:
        if self.progress is None or self.task_id is None:
            return
        self.done += n
        self.facts.update(facts)
        rate = self.done / max(time.monotonic() - self.started, 1e-9)
        told = "  ".join([f"{rate:,.1f} {self.unit}/s", *(_fact(k, v) for k, v in self.facts.items())])
        self.progress.update(self.task_id, advance=n, facts=told)

    def __exit__(self, *exc: object) -> None:
        self.reporter._leave()
