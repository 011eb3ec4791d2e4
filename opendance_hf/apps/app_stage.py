"""Make the page on which a dance of ``opendance app`` is seen and changed: the stage of ``opendance view``, and a panel."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from opendance_hf.apps.app_jobs import Request, stage_file
from opendance_hf.apps.view import read_stage, templates
from opendance_hf.files import atomic_write


def render_stage(folder: Path, request: Request, dance: Path) -> None:
    """Write the page of a job into its folder, in the place of one of another version.

    Args:
        folder: of the job; the page has its name.
        request: of the job.
        dance: its dance.

    Raises:
        ViewError: if the dance cannot be shown.
    """
    name = Path(request.name).stem
    job = asdict(request) | {"id": folder.name, "owner": ""}
    page = templates().get_template("stage.html.jinja")
    text = page.render(title=name, data=read_stage([name], [dance], folder / "song"), job=job)
    with atomic_write(stage_file(folder)) as partial:
        partial.write_text(text, encoding="utf-8")
    for old in folder.glob("stage-*.html"):
        if old != stage_file(folder):
            old.unlink(missing_ok=True)
