"""Start the server of ``opendance app``, or write the folder of a Space that runs it."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from opendance_hf.apps.app_jobs import Jobs, Limits
from opendance_hf.assets import cache_dir
from opendance_hf.errors import OpenDanceError, missing_extra


class AppError(OpenDanceError, ValueError):
    """Raised if the server cannot start; the message has the cause and the remedy."""


@dataclass(frozen=True)
class AppOptions:
    """Options of ``opendance app``; see its ``--help``."""

    host: str = "127.0.0.1"
    port: int = 8767
    public_url: str = ""
    embed: str = ""
    open_: bool = False
    folder: Path | None = None
    limits: Limits = field(default_factory=Limits)


def run_app(options: AppOptions, console: Console) -> None:
    """Serve until Ctrl-C.

    Raises:
        AppError: if a package is missing, or the folder belongs to a running server.
        ServerError: if the address is not available or an option is not a URL.
        OSError: if the folder cannot be written.
    """
    try:
        from opendance_hf.apps.app_desk import Desk
        from opendance_hf.apps.app_server import make_app
        from opendance_hf.apps.serving import Address, Door, listen, public_url, serve
    except ModuleNotFoundError as error:
        if (message := missing_extra(error)) is None:
            raise
        raise AppError(message) from None
    address = Address(options.host, public_url(options.public_url), public_url(options.embed, "--embed"))
    folder = options.folder or cache_dir() / "app"
    with _alone_in(folder):
        desk = Desk(Jobs(folder, options.limits))
        name = "opendance_app_" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
        door = Door(address, name, None) if options.open_ else Door(address, name)
        sock = listen(address, options.port)
        for line in (
            f"Open:  {door.link(sock)}",
            "Everyone may use it: each browser sees its own dances."
            if options.open_
            else "Whoever has this link sees and makes all dances. It is valid until the server stops.",
            f"Songs and dances lie in {folder}. Stop with Ctrl-C.",
        ):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        serve(make_app(desk, door), sock)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other servers out of a folder.

    Raises:
        AppError: if one uses it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AppError(
                f"{folder}: another opendance app uses this folder; stop it, or give --folder"
            ) from None
        yield
