"""What a stage of the pipeline is, and how it says no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.clip import Clip


class Rejected(Exception):
    """A clip that is not for the dataset; raised where a stage cannot return, inside an iterator say.

    Not an error: a rejection is a decision, it is recorded with its reason and not retried.
    """


@dataclass(frozen=True)
class Dropped:
    """A span that is not used, and why.

    Attributes:
        start_s: seconds of the source.
        end_s: seconds of the source.
        reason: in words, the same for all spans dropped by the same rule, so that they can be counted.
        detail: the number that decided, with its limit: "0.08, at least 0.15 allowed".
        stage: name of the stage; filled in by the pipeline.
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
    """A step of the pipeline: a frozen dataclass whose fields are its thresholds, called with a clip.

    Returns the clip with what it found, several clips, or :class:`Dropped` in the place of any. The result must depend
    on the clip and the fields only. Raise ``version`` when the same fields give another result: results of earlier
    versions are then computed anew.

    Attributes:
        name: in configurations, on the command line and in the ledger.
        version: of the code.
        reads: fields of :class:`~opendance_hf.pipeline.clip.Clip` that must have been written before.
        writes: fields that it adds.
        changes: fields that it changes where an earlier stage has written them.
        files: files that it writes into the build folder, with ``{id}`` for the sequence's id.
        changes_rows: False if published rows do not depend on it (previews).
        runs_while_loading: True for a stage that uses neither torch nor SciPy: large libraries are imported in another
            thread meanwhile.
        keeps_result: whether the result is kept on disk for the next run; False where making it again is as cheap.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    changes: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()
    changes_rows: ClassVar[bool] = True
    runs_while_loading: ClassVar[bool] = False
    keeps_result: ClassVar[bool] = True

    def __call__(self, clip: Clip) -> Result:
        """Process one clip."""
        raise NotImplementedError

    @property
    def backends(self) -> dict[str, Backend]:
        """The backends among the fields, by field name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Backend)}

    def provenance(self) -> tuple[tuple[str, str, str], ...]:
        """Return (stage, name, version) of what computes the result, for the rows."""
        return tuple(row for backend in self.backends.values() for row in backend.provenance(self.name))

    def fingerprinted(self) -> dict[str, Any]:
        """Return what the result depends on: name, version and fields; of backends their content, not their place."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values = {k: v.fingerprinted() if isinstance(v, Backend) else v for k, v in values.items()}
        return {"stage": self.name, "version": self.version, **values}
