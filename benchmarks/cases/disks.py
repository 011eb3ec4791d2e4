"""Run commands that write on full and read-only disks, and report what they tell and leave behind.

Disks are small file systems in memory, mounted in a mount namespace of its own (``unshare``), which no other process sees
and which ends with this one. Inside of it: ``python -m benchmarks.cases.disks INPUTS`` prints the results as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

#: Mount options of each kind of disk. On ``filling`` the check before the work is left out: writing fails midway.
DISKS: Final = {"full": "size=64k", "read-only": "size=9m,ro", "filling": "size=48k"}
#: Commands that are not run on a disk that fills up: they take long, or need a network.
NOT_FILLING: Final = ("demo", "fetch")
#: What a message may name as the cause.
CAUSES: Final = ("no space left", "read-only")


def namespace() -> list[str] | None:
    """Return the beginning of a command that runs in a mount namespace of its own; None if this machine allows none."""
    for options in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        command = ["unshare", *options]
        if (
            shutil.which("unshare")
            and not subprocess.run(
                [*command, "mount", "-t", "tmpfs", "t", "/mnt"], capture_output=True
            ).returncode
        ):
            return command
    return None


def run_on_disks(inputs: Path) -> list[dict[str, Any]]:
    """Run all commands of :func:`commands` on all disks; return command, disk, exit code, output and remaining files."""
    begin = namespace()
    assert begin is not None
    done = subprocess.run(
        [*begin, sys.executable, "-m", "benchmarks.cases.disks", str(inputs)],
        capture_output=True, text=True, check=True, env={**os.environ, "HF_HUB_OFFLINE": "0"},
    )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def commands(inputs: Path, disk: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield names and arguments of the commands, with results on a disk."""
    data, song = str(inputs / "data"), str(inputs / "song.wav")
    yield "music", ["music", song, "--out", str(disk / "m.npz")]
    yield (
        "generate",
        ["generate", song, "--model", str(inputs / "model"), "--out", str(disk / "new" / "d.mp4")],
    )
    yield "stats", ["stats", data, "--json", str(disk / "s.json"), "--figure", str(disk / "f.png")]
    yield (
        "evaluate",
        [
            "evaluate",
            "--predictions",
            data,
            "--reference",
            data,
            "--json",
            str(disk / "e.json"),
            "--figures",
            str(disk / "fig"),
        ],
    )
    yield "convert", ["convert", "humandata", str(inputs / "duo.npz"), "--out", str(disk / "a.npz")]
    yield "clean", ["clean", str(inputs / "duo.npz"), "--out", str(disk / "a.npz")]
    yield (
        "collect",
        ["collect", str(inputs / "posts.csv"), "--out", str(disk / "l.csv"), "--json", str(disk / "c.json")],
    )
    yield "inspect", ["inspect", str(inputs / "build"), "--export", str(disk / "decisions.csv")]
    selected = str(inputs / "selected.csv")
    yield "build", ["build", str(inputs / "videos"), "--selected", selected, "--out", str(disk / "data")]
    yield "train", [
        "train", "vqvae", "--dataset", data, "--output-dir", str(disk / "run"), "--set", "data.num_frames=32",
        "--set", "trainer.max_steps=1", "--set", "trainer.save_steps=1", "--set", "trainer.report_to=none",
    ]  # fmt: skip
    yield "demo", ["demo", "--out", str(disk / "demo"), "--no-train"]
    yield "fetch", ["fetch"]


def _main(inputs: Path) -> None:
    import opendance_hf.disk

    check, checking = opendance_hf.disk.check_room, True

    def check_room(*values: Any, **options: Any) -> None:
        if checking:
            check(*values, **options)

    opendance_hf.disk.check_room = check_room  # before other modules import it
    from typer.testing import CliRunner

    from opendance_hf.cli import app

    disk, found = inputs / "disk", []
    disk.mkdir()
    os.environ["OPENDANCE_CACHE"] = str(disk / "cache")
    for kind, options in DISKS.items():
        checking = kind != "filling"
        for name, arguments in commands(inputs, disk):
            if kind == "filling" and name in NOT_FILLING:
                continue
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "t", str(disk)], check=True)
            done = CliRunner().invoke(app, arguments)
            left = sorted(str(path.relative_to(disk)) for path in disk.rglob("*"))
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
            crash = "" if isinstance(done.exception, SystemExit | None) else repr(done.exception)
            found.append(
                {
                    "command": name,
                    "disk": kind,
                    "exit": done.exit_code,
                    "told": done.output + crash,
                    "left": left,
                }
            )
    print(json.dumps(found))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
