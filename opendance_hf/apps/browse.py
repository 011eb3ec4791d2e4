"""Serve the rows of a dataset as a table and each of them as a stage (``opendance view DATASET``).

The table is paged here, so that a browser never holds more than a page of a large dataset. A stage is the page that
``opendance view --out`` writes, made when it is asked for; its own content security policy goes with it.

Access is controlled as :mod:`opendance_hf.apps.serving` says, with one token for each start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from rich.console import Console
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from opendance_hf.apps.dataset_rows import FACETS, FIELDS, Dataset, Row, Selection
from opendance_hf.apps.serving import Address, BadRequest, Door, Guard, listen, public_url, refuse, serve
from opendance_hf.apps.songs import SongFolder
from opendance_hf.apps.view import (
    MAX_DANCERS,
    ViewError,
    ViewOptions,
    check_detail,
    check_size,
    content_policy,
    ready,
    render_page,
    song_of,
    stage_data,
)
from opendance_hf.errors import OpenDanceError
from opendance_hf.formats.opendance import motion_of

_STATIC: Final = Path(__file__).with_name("static") / "browse"
PAGE_ROWS: Final = 50
#: Words of a search, and letters of a parameter, that are looked at.
_MAX_WORDS, _MAX_LETTERS = 8, 200


@dataclass(frozen=True)
class BrowseOptions:
    """Options of :func:`browse`.

    Attributes:
        audio: folder with the songs or the source videos of rows, see :class:`opendance_hf.apps.songs.SongFolder`.
        detail: of the bodies, see :data:`opendance_hf.apps.view.DETAILS`.
        host: address to listen on.
        port: to listen on; 0 selects a free one.
        public_url: URL of a proxy before the server; empty without one.
    """

    audio: Path | None = None
    detail: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8766
    public_url: str = ""

    @classmethod
    def of(cls, page: ViewOptions, host: str, port: int, public_url: str) -> BrowseOptions:
        """Return the options of a server from those of a page.

        Raises:
            ViewError: if one is for pages only.
        """
        only = {
            "--audio-start": page.audio_start_s,
            "--video": page.video,
            "--video-start": page.video_start_s,
        }
        only |= {f"--{name}": value for name, value in page.answers.items()}
        if given := [name for name, value in only.items() if value is not None]:
            raise ViewError(
                f"{given[0]}: is for a page of motion files; a dataset of several rows is served, see --out"
            )
        return cls(page.audio, page.detail, host, port, public_url)


def browse(dataset: Dataset, options: BrowseOptions, console: Console) -> None:
    """Print a link to the rows of a dataset and answer requests until Ctrl-C.

    Raises:
        ServerError: if the address or the public URL cannot be used.
        ViewError: if the detail is unknown, or the audio is not a folder.
    """
    check_detail(options.detail)
    address = Address(options.host, public_url(options.public_url))
    folder = dataset.folder.resolve()
    door = Door(address, "opendance_view_" + hashlib.sha256(str(folder).encode()).hexdigest()[:8])
    songs = None if options.audio is None else SongFolder(options.audio)
    sock = listen(address, options.port)
    for line in (
        f"{dataset.folder}: {len(dataset.rows)} rows",
        f"open:  {door.link(sock)}",
        "The link lets in whoever has it, until the command ends. Stop with Ctrl-C.",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    serve(make_app(dataset, door, songs, options.detail), sock)


def make_app(dataset: Dataset, door: Door, songs: SongFolder | None = None, detail: str = "auto") -> ASGIApp:
    """Create the ASGI application of a dataset."""

    def page(_: Request) -> Response:
        return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    def api(work: Callable[[Request], dict[str, Any]]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            if not door.admits(request):
                return refuse(401, "Log in first.")
            return JSONResponse(work(request), headers={"Cache-Control": "no-store"})

        return endpoint

    async def stage(request: Request) -> Response:
        if not door.admits(request):
            return _problem(401, "Open the link that the command printed first.", "/")
        try:
            query = _Query.of(request)
        except BadRequest as error:
            return _problem(error.status, str(error), "/")
        try:
            rows = _rows_of(dataset, request.query_params.getlist("row"))
            text = await run_in_threadpool(_stage_page, dataset, query, rows, songs, detail)
        except BadRequest as error:
            return _problem(error.status, str(error), query.link("/"))
        except OpenDanceError as error:
            return _problem(422, str(error), query.link("/"))
        headers = {
            "Content-Security-Policy": f"{content_policy()}; frame-ancestors 'none'",
            "Cache-Control": "no-store",
        }
        return HTMLResponse(text, headers=headers)

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/login", door.login, methods=["POST"]),
            Route("/api/dataset", api(lambda _: _dataset_json(dataset))),
            Route("/api/rows", api(lambda request: _rows_json(dataset, _Query.of(request)))),
            Route("/stage", stage),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        exception_handlers={BadRequest: lambda _, error: refuse(error.status, str(error))},
    )
    return Guard(app, door.address)


@dataclass(frozen=True)
class _Query:
    """The state of the table of rows, as its address has it.

    Attributes:
        selection: rows and their order.
        page: number of the page, from 0.
        words: the text that was searched for, as typed.
    """

    selection: Selection
    page: int
    words: str

    @classmethod
    def of(cls, request: Request) -> _Query:
        """Read the parameters of a request.

        Raises:
            BadRequest: if a parameter has a value that the page does not send.
        """
        given = request.query_params
        if any(len(value) > _MAX_LETTERS for value in given.values()):
            raise BadRequest(400, f"A parameter has more than {_MAX_LETTERS} letters.")
        sort, page = given.get("sort", ""), given.get("page", "0")
        if sort and sort not in FIELDS:
            raise BadRequest(400, f"Unknown order {sort!r}: expected one of {', '.join(FIELDS)}.")
        if not page.isascii() or not page.isdigit() or len(page) > 9:
            raise BadRequest(400, f"Unknown page {page!r}: expected a number from 0.")
        words = given.get("q", "")
        filters = tuple((name, given[name]) for name in FACETS if given.get(name))
        selection = Selection(
            tuple(words.lower().split()[:_MAX_WORDS]), filters, sort, descending=given.get("down") == "1"
        )
        return cls(selection, int(page), words)

    def link(self, path: str, **more: str | list[str]) -> str:
        """Return a path with these parameters and more of them."""
        own = self.selection
        values = {
            "q": self.words,
            **dict(own.filters),
            "sort": own.sort,
            "down": "1" if own.descending else "",
        }
        values["page"] = str(self.page or "")
        pairs = urlencode({key: value for key, value in {**values, **more}.items() if value}, doseq=True)
        return f"{path}?{pairs}" if pairs else path


def _dataset_json(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.folder.resolve().name,
        "total": len(dataset.rows),
        "fields": {name: field._asdict() for name, field in dataset.fields().items()},
        "facets": dataset.facets(),
        "most": MAX_DANCERS,
    }


def _rows_json(dataset: Dataset, query: _Query) -> dict[str, Any]:
    found = dataset.select(query.selection)
    pages = max(1, -(-len(found) // PAGE_ROWS))
    page = min(query.page, pages - 1)
    shown = found[page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
    return {"count": len(found), "page": page, "pages": pages, "rows": [asdict(row) for row in shown]}


def _rows_of(dataset: Dataset, keys: list[str]) -> list[Row]:
    rows = [dataset.get(key) for key in dict.fromkeys(keys)]
    found = [row for row in rows if row is not None]
    if not keys or len(found) < len(rows):
        missing = [key for key in keys if dataset.get(key) is None]
        raise BadRequest(404, f"The dataset has no row {missing[0]!r}." if missing else "No row is named.")
    if sum(row.dancers for row in found) > MAX_DANCERS:
        raise BadRequest(400, f"A stage holds {MAX_DANCERS} dancers: choose fewer rows.")
    return found


def _stage_page(
    dataset: Dataset, query: _Query, rows: list[Row], songs: SongFolder | None, detail: str
) -> str:
    """Return the stage of rows, with links to its neighbours in the table."""
    sequences = [dataset.load(row) for row in rows]
    motions = [ready(motion_of(seq)) for seq in sequences]
    check_size([row.id for row in rows], motions)
    samples, note = None, ""
    if songs is not None:
        try:
            song = songs.find(sequences[0])
            if song is None:
                note = f"No song: {songs.folder} has no file of row {rows[0].id}."
            else:
                samples = song_of(motions, song)
        except (OpenDanceError, OSError) as error:
            note = f"No song: {error}"
    numbers = [_facts(row) for row in rows] if len(rows) == 1 else ()
    data = stage_data([row.id for row in rows], motions, samples, numbers=numbers, detail=detail)
    return render_page({**data, "rows": _links(dataset, query, rows, note)})


def _facts(row: Row) -> dict[str, str]:
    """Return what the stage of one row shows beside its scores."""
    genre = {"genre": row.genre} if row.genre else {}
    return {"split": f"{row.config}, {row.split}", **genre}


def _links(dataset: Dataset, query: _Query, rows: list[Row], note: str) -> dict[str, str]:
    """Return where a stage leads: back to the table, and to the rows before and after in its order."""
    order = dataset.select(query.selection)
    at = next((index for index, row in enumerate(order) if row.id == rows[0].id), None)
    links = {"previous": "", "next": "", "place": f"{len(rows)} rows side by side", "note": note}
    if at is not None:
        query = replace(query, page=at // PAGE_ROWS)
    if len(rows) == 1:
        links["place"] = (
            f"row {at + 1:,} of {len(order):,}" if at is not None else "not among the rows of the table"
        )
        for name, index in (
            (("previous", -1), ("next", len(order)))
            if at is None
            else (("previous", at - 1), ("next", at + 1))
        ):
            if 0 <= index < len(order):
                links[name] = query.link("/stage", row=order[index].id)
    links["back"] = query.link("/", at=rows[0].id)
    return links


def _problem(status: int, message: str, back: str) -> Response:
    """Return a page with the reason for a stage that cannot be shown."""
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        'initial-scale=1"><title>No stage</title><link rel="stylesheet" href="/static/browse.css">'
        f'<main class="problem"><h1>No stage</h1><p>{escape(message)}</p><a class="button" href="{escape(back)}">All rows</a></main>',
        status,
        headers={"Cache-Control": "no-store"},
    )
