"""What a person sees in the terminal while a dataset is built, and when it is done."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from opendance_hf.apps.report import BuildReport, metric_label, metric_number, metric_unit
from opendance_hf.pipeline.ledger import Item

_STYLES: Final = {"published": "green", "rejected": "yellow", "failed": "red", "waiting": "cyan"}
#: Pipes and CI have no width of their own; nobody resizes a log.
_PIPE_WIDTH: Final = 120
#: Columns between two columns of a table.
_GAP: Final = 3


def make_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; on a pipe at least 120 columns, so that logs are not cramped."""
    console = Console(stderr=stderr)
    if console.is_terminal or console.width >= _PIPE_WIDTH:
        return console
    return Console(stderr=stderr, width=_PIPE_WIDTH)


class _ConsoleHandler(logging.Handler):
    """Prints messages for people, as they are."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        self._console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def show_log(console: Console) -> Iterator[None]:
    """Print what the library logs from INFO on, while the block runs."""
    logger = logging.getLogger("opendance_hf")
    handler, level = _ConsoleHandler(console), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class ConsoleProgress:
    """A bar for every video at work; on a pipe or in CI, a line when a video first comes to a stage."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[stage]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said: set[tuple[str, str]] = set()

    def __enter__(self) -> ConsoleProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def started(self, item: Item) -> None:
        """See :class:`opendance_hf.pipeline.runners.local.Progress`."""
        self._said = {(path, stage) for path, stage in self._said if path != item.path}
        self._tasks[item.path] = self._bars.add_task(_short(item.name), total=1.0, stage="starting")

    def step(self, item: Item, stage: str, share: float) -> None:
        """See :class:`opendance_hf.pipeline.runners.local.Progress`."""
        if item.path in self._tasks:
            self._bars.update(self._tasks[item.path], completed=share, stage=stage)
        if not self.console.is_terminal and (item.path, stage) not in self._said:
            self._say(f"  {item.name}: {stage}")
        self._said.add((item.path, stage))

    def ended(self, item: Item, status: str, reason: str) -> None:
        """See :class:`opendance_hf.pipeline.runners.local.Progress`."""
        if item.path in self._tasks:
            self._bars.remove_task(self._tasks.pop(item.path))
        self._say(f"{item.name}: {status} ({reason})", _STYLES.get(status))

    def _say(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def print_report(console: Console, report: BuildReport) -> None:
    """Every input with its end, every sequence with its quality, and the totals; nothing is cut off, but folded."""
    console.print()
    console.print(_inputs(report))
    for table in _sequences(report, console.width):
        console.print(table)
    counts = {status: sum(row.status == status for row in report.inputs) for status in _STYLES}
    total_s = sum(row.duration_s for row in report.sequences)
    console.print(
        f"{len(report.inputs)} input(s): "
        + ", ".join(f"{count} {status}" for status, count in counts.items() if count or status != "waiting")
        + f"; {len(report.sequences)} sequence(s), {total_s:.1f} s of dance",
        soft_wrap=True,
    )


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, collapse_padding=True
    )


def _inputs(report: BuildReport) -> Table:
    table = _table("What happened to each input")
    table.add_column("status", no_wrap=True)
    table.add_column("input", overflow="fold")
    table.add_column("sequences", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for row in report.inputs:
        table.add_row(
            Text(row.status, style=_STYLES.get(row.status, "")),
            Text(row.name),
            str(row.num_sequences),
            f"{row.seconds:.1f}",
            Text(row.reason),
        )
    return table


def _sequences(report: BuildReport, width: int) -> list[Table]:
    """One line a sequence, in as many tables as the width takes; a header's words stand below one another."""
    rows = report.sequences
    if not rows:
        return []
    columns = {
        "dancers": [str(row.num_dancers) for row in rows],
        "duration_s": [f"{row.duration_s:.2f}" for row in rows],
        "bpm": [f"{row.bpm:.1f}" for row in rows],
    }
    for name in dict.fromkeys(name for row in rows for name in row.metrics):
        columns[name] = [metric_number(row.metrics[name]) if name in row.metrics else "" for row in rows]
    tables: list[Table] = []
    used = width
    cells: list[list[list[str]]] = []  # of each table, its columns
    for name, values in columns.items():
        words = [*metric_label(name).split(), *filter(None, [metric_unit(name)])]
        wanted = max(map(len, (*words, *values))) + _GAP
        if used + wanted > width:
            tables.append(_table("Sequences" if not tables else "Sequences, continued"))
            tables[-1].add_column("id", no_wrap=True)
            cells.append([[row.id for row in rows]])
            used = max(len(row.id) for row in rows) + _GAP
        tables[-1].add_column("\n".join(words), justify="right", no_wrap=True)
        cells[-1].append(values)
        used += wanted
    for table, parts in zip(tables, cells, strict=True):
        for line in zip(*parts, strict=True):
            table.add_row(*line)
    return tables


def _short(name: str, limit: int = 30) -> str:
    return name if len(name) <= limit else "..." + name[-limit + 3 :]
