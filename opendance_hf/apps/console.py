"""Show the progress and the results of a build in the terminal."""

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

from opendance_hf.apps.report import (
    MAX_LISTED,
    BuildReport,
    explained_scores,
    metric_label,
    metric_number,
    metric_unit,
)
from opendance_hf.music.tempo import tempo_doubt
from opendance_hf.pipeline.ledger import Item

_STYLES: Final = {"published": "green", "rejected": "yellow", "failed": "red", "waiting": "cyan"}
#: Width on pipes and in CI, which have no terminal width, in characters.
_PIPE_WIDTH: Final = 120
#: Characters between two columns of a table.
_COLUMN_GAP: Final = 3


def make_console(*, stderr: bool = False) -> Console:
    """Create a console with the width of the terminal, or at least 120 characters on a pipe."""
    console = Console(stderr=stderr)
    if console.is_terminal or console.width >= _PIPE_WIDTH:
        return console
    return Console(stderr=stderr, width=_PIPE_WIDTH)


class _ConsoleHandler(logging.Handler):
    """Logging handler that prints messages without formatting."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        self._console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def show_log(console: Console) -> Iterator[None]:
    """Print log messages of the library, INFO and above, while the block runs."""
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
    """Show a progress bar for every video; on a pipe or in CI, print a line when a video first reaches a stage."""

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
        self._reported: set[tuple[str, str]] = set()

    def __enter__(self) -> ConsoleProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def started(self, item: Item) -> None:
        """Add a bar, see :class:`opendance_hf.pipeline.runners.worker.Progress`."""
        self._reported = {(path, stage) for path, stage in self._reported if path != item.path}
        self._tasks[item.path] = self._bars.add_task(_short(item.name), total=1.0, stage="starting")

    def step(self, item: Item, stage: str, share: float) -> None:
        """Update the bar, see :class:`opendance_hf.pipeline.runners.worker.Progress`."""
        if item.path in self._tasks:
            self._bars.update(self._tasks[item.path], completed=share, stage=stage)
        if not self.console.is_terminal and (item.path, stage) not in self._reported:
            self._print(f"  {item.name}: {stage}")
        self._reported.add((item.path, stage))

    def ended(self, item: Item, status: str, reason: str) -> None:
        """Remove the bar and print the result, see :class:`opendance_hf.pipeline.runners.worker.Progress`."""
        if item.path in self._tasks:
            self._bars.remove_task(self._tasks.pop(item.path))
        self._print(f"{item.name}: {status} ({reason})", _STYLES.get(status))

    def _print(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def print_report(console: Console, report: BuildReport) -> None:
    """Print the result of every input, the quality of every sequence, and the totals; long text is wrapped."""
    console.print()
    console.print(_inputs(report))
    for table in _sequences(report, console.width):
        console.print(table)
    for score in explained_scores(report.sequences):
        unit = f", {score.unit}" if score.unit else ""
        line = f"  {score.label}{unit}: {score.meaning}; {score.wanted}"
        console.print(line, style="dim", markup=False, highlight=False)
    for row in report.sequences[:MAX_LISTED]:
        if doubt := tempo_doubt(row.bpm):
            console.print(
                f"warning: {row.id}: {doubt}; it is published unchanged",
                style="yellow",
                markup=False,
                highlight=False,
            )
    if report.dropped:
        console.print(_dropped(report))
    found = report.statuses
    counts = {status: found[status] for status in _STYLES}
    total_s = sum(row.duration_s for row in report.sequences)
    console.print(
        f"{found.total()} input(s): "
        + ", ".join(f"{count} {status}" for status, count in counts.items() if count or status != "waiting")
        + f"; {len(report.sequences)} sequence(s), {total_s:.1f} s of dance",
        soft_wrap=True,
    )


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, collapse_padding=True
    )


def _inputs(report: BuildReport) -> Table:
    table = _table("Result of each input")
    table.add_column("status", no_wrap=True)
    table.add_column("input", overflow="fold")
    table.add_column("sequences", justify="right", no_wrap=True)
    table.add_column("processing\nseconds", justify="right", no_wrap=True)
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


def _dropped(report: BuildReport) -> Table:
    table = _table("Unused spans")
    table.add_column("stage", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for name in ("spans", "inputs", "seconds\nof video"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.dropped:
        table.add_row(row.stage, Text(row.reason), str(row.spans), str(row.inputs), f"{row.seconds:.1f}")
    return table


def _sequences(report: BuildReport, width: int) -> list[Table]:
    """Return tables with one line per sequence, split into several to fit the width; header words are stacked."""
    rows = report.sequences[:MAX_LISTED]
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
    cells: list[list[list[str]]] = []  # columns of each table
    for name, values in columns.items():
        words = [*metric_label(name).split(), *filter(None, [metric_unit(name)])]
        column_width = max(map(len, (*words, *values))) + _COLUMN_GAP
        if used + column_width > width:
            tables.append(_table("Sequences" if not tables else "Sequences, continued"))
            tables[-1].add_column("id", no_wrap=True)
            cells.append([[row.id for row in rows]])
            used = max(len(row.id) for row in rows) + _COLUMN_GAP
        tables[-1].add_column("\n".join(words), justify="right", no_wrap=True)
        cells[-1].append(values)
        used += column_width
    for table, parts in zip(tables, cells, strict=True):
        for line in zip(*parts, strict=True):
            table.add_row(*line)
    return tables


def _short(name: str, limit: int = 30) -> str:
    return name if len(name) <= limit else "..." + name[-limit + 3 :]
