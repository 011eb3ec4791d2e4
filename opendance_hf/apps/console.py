"""What a person sees in the terminal while a dataset is built, and when it is done."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from opendance_hf.apps.report import BuildReport
from opendance_hf.pipeline.ledger import Item

_STYLES = {"published": "green", "rejected": "yellow", "failed": "red"}


class ConsoleProgress:
    """A bar for every video at work; on a pipe or in CI, a line when a stage begins."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[stage]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._stage: dict[str, str] = {}

    def __enter__(self) -> ConsoleProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def started(self, item: Item) -> None:
        """See :class:`opendance_hf.pipeline.runners.local.Progress`."""
        self._tasks[item.path] = self._bars.add_task(_short(item.name), total=1.0, stage="starting")

    def step(self, item: Item, stage: str, share: float) -> None:
        """See :class:`opendance_hf.pipeline.runners.local.Progress`."""
        if item.path in self._tasks:
            self._bars.update(self._tasks[item.path], completed=share, stage=stage)
        if not self.console.is_terminal and self._stage.get(item.path) != stage:
            self.console.print(f"  {_short(item.name)}: {stage}", markup=False, highlight=False)
        self._stage[item.path] = stage

    def ended(self, item: Item, status: str, reason: str) -> None:
        """See :class:`opendance_hf.pipeline.runners.local.Progress`."""
        if item.path in self._tasks:
            self._bars.remove_task(self._tasks.pop(item.path))
        line = f"{_short(item.name)}: {status} ({reason})"
        self.console.print(line, style=_STYLES.get(status), markup=False, highlight=False)


def print_report(console: Console, report: BuildReport) -> None:
    """Every input with its end, every sequence with its quality, and the totals."""
    inputs = Table(title="What happened to each input", title_justify="left")
    for column in ("input", "status", "sequences", "seconds", "reason"):
        inputs.add_column(column, justify="right" if column in ("sequences", "seconds") else "left")
    for row in report.inputs:
        inputs.add_row(
            _plain(row.name),
            f"[{_STYLES.get(row.status, '')}]{row.status}[/]" if row.status in _STYLES else row.status,
            str(row.num_sequences),
            f"{row.seconds:.1f}",
            _plain(row.reason),
        )
    console.print(inputs)
    if report.sequences:
        table = Table(title="Sequences", title_justify="left")
        metrics = list(dict.fromkeys(name for row in report.sequences for name in row.metrics))
        for column in ("id", "config", "dancers", "duration s", "bpm", *metrics):
            table.add_column(column, justify="left" if column in ("id", "config") else "right")
        for seq in report.sequences:
            table.add_row(
                seq.id,
                seq.config,
                str(seq.num_dancers),
                f"{seq.duration_s:.2f}",
                f"{seq.bpm:.1f}",
                *(f"{seq.metrics[name]:.3f}" if name in seq.metrics else "" for name in metrics),
            )
        console.print(table)
    counts = {status: sum(row.status == status for row in report.inputs) for status in _STYLES}
    total_s = sum(row.duration_s for row in report.sequences)
    console.print(
        f"{len(report.inputs)} input(s): "
        + ", ".join(f"{count} {status}" for status, count in counts.items())
        + f"; {len(report.sequences)} sequence(s), {total_s:.1f} s of dance"
    )


def _short(name: str, limit: int = 40) -> str:
    return name if len(name) <= limit else "..." + name[-limit + 3 :]


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
