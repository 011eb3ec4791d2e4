"""Define the base class of stages, and how a stage drops a span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any, ClassVar

from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.clip import Clip


class VanishedError(OpenDanceError, OSError):
    """Raised if the videos of a build have vanished, which is the fault of none of them; the build stops."""


class Rejected(Exception):
    """Raised to reject a clip where a stage cannot return :class:`Dropped`, for example inside an iterator.

    A rejection is a decision and not an error: it is stored with its reason, and the input is not tried again.

    Args:
        reason: reason as text.
        dropped: the spans of a rejected input.
    """

    def __init__(self, reason: str, dropped: Sequence[Dropped] = ()) -> None:
        super().__init__(reason)
        self.dropped = tuple(dropped)


@dataclass(frozen=True)
class Dropped:
    """A span that is not used, with the reason.

    Attributes:
        start_s: start of the span, seconds of the source.
        end_s: end of the span, seconds of the source.
        reason: reason as text, the same for all spans dropped by one rule, so that they can be counted.
        detail: the measured value with its limit: "0.08, at least 0.15 required".
        stage: name of the stage; set by the pipeline.
    """

    start_s: float
    end_s: float
    reason: str
    detail: str = ""
    stage: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


Result = Clip | Dropped | Sequence[Clip | Dropped]


@dataclass(frozen=True)
class Stage:
    """Base class of stages: a frozen dataclass whose fields are its thresholds, called with a clip.

    A call returns the clip with its results, several clips, or :class:`Dropped` in place of any of them. The result must
    depend only on the clip and the fields; what it takes from ``clip.repairs`` is listed by :meth:`item_settings`.
    Increase ``version`` when the code changes the result for the same fields: cached results of earlier versions are
    then not used.

    Attributes:
        name: name in configurations, on the command line and in the ledger.
        version: version of the code.
        reads: fields of :class:`~opendance_hf.pipeline.clip.Clip` that earlier stages must have written.
        writes: fields that the stage adds.
        changes: fields that the stage changes after an earlier stage has written them.
        columns: columns of the row that it adds to ``clip.columns``, see :data:`opendance_hf.schema.COLUMNS`.
        files: files that the stage writes into the build folder, with ``{id}`` for the sequence's id.
        libraries: distributions whose version the result depends on; another version computes it again.
        changes_rows: False if published rows do not depend on the stage (previews).
        runs_while_loading: True for a stage that uses neither torch nor SciPy, and can run while another thread imports
            torch.
        keeps_result: True if the result is cached on disk; False where computing it again is as fast.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    changes: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()
    libraries: ClassVar[tuple[str, ...]] = ()
    changes_rows: ClassVar[bool] = True
    runs_while_loading: ClassVar[bool] = False
    keeps_result: ClassVar[bool] = True

    def __call__(self, clip: Clip) -> Result:
        """Process one clip."""
        raise NotImplementedError

    @property
    def backends(self) -> dict[str, Backend]:
        """Backends among the fields, by field name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Backend)}

    def provenance(self) -> tuple[tuple[str, str, str], ...]:
        """Return (stage, name, version) of the programs that compute the result, for the rows."""
        return tuple(row for backend in self.backends.values() for row in backend.provenance(self.name))

    def item_settings(self, clip: Clip) -> list[dict[str, Any]]:
        """Return settings of this clip alone, beside the fields, that its result depends on: what annotators repaired."""
        return []

    def fingerprinted(self) -> dict[str, Any]:
        """Return everything the result depends on; of backends their content, not their location."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values = {k: v.fingerprinted() if isinstance(v, Backend) else v for k, v in values.items()}
        libraries = {name: version(name) for name in self.libraries}
        return {"stage": self.name, "version": self.version, "libraries": libraries, **values}
