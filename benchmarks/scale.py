"""Run the benchmarks of docs/scale.md and write its table.

    python -m benchmarks.scale [VIDEOS] [--parts ledger hub ...]      run, then write the table
    python -m benchmarks.scale --table                                write the table of the figures that are there

VIDEOS are files; parts that build from videos are left out without them. Every part is a command of its own
(``python -m benchmarks.PART``) with figures in ``benchmarks/PART.json``, and says there what it does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "scale.md"
BEGIN, END = "<!-- table: make bench-scale -->\n", "<!-- end of the table -->\n"


class Row(NamedTuple):
    """A line of the table; what was not measured is empty."""

    what: str
    items: int | None = None
    seconds: float | None = None
    memory_mb: float | None = None
    rate: str = ""
    survived: str = ""


def ledger(found: dict[str, Any]) -> list[Row]:
    items, seconds = found["items"], found["seconds"]
    names = {
        "enter all": "ledger: enter all inputs",
        "resume: retry, count, first input": "ledger: resume",
        "look at all": "ledger: look at every input",
    }
    rows = [Row(what, items, seconds[name]) for name, what in names.items()]
    rows[0] = rows[0]._replace(memory_mb=found["peak_mb"])
    done = next(name for name in seconds if name.endswith("decisions"))
    judged = f"{1000 * seconds[done] / int(done.split()[0]):.0f} ms a decision"
    return [*rows, Row("inspection: 25,000 sequences of them", items, seconds[done], rate=judged)]


def grouping(found: dict[str, Any]) -> list[Row]:
    rows = []
    items = found["sequences"]
    for name, more in (("all", 0), ("more", found["more"]), ("nothing", 0)):
        items += more
        one = found[f"round_{name}"]
        said = f"{one['found']} of {one['copies']} copies found, {one['false']} false"
        what = {"all": "group all sequences by song and motion", "more": f"group {more} more with them"}
        rows.append(
            Row(what.get(name, "group again, nothing new"), items, one["seconds"], one["peak_mb"], "", said)
        )
    return rows


def full_size(found: dict[str, Any]) -> list[Row]:
    pack, stream, reader = found["pack"], found["stream"], found["reader"]
    of = f"at {found['length']:g} of the length"
    shards = pack["parquet_shards"] + pack["tars_shards"]
    mb = 1000 * (pack["parquet_gb"] + pack["tars_gb"]) / pack["seconds"]
    rows = [
        Row(
            f"pack {shards} shards {of}",
            pack["sequences"],
            pack["seconds"],
            pack["peak_mb"],
            f"{mb:.0f} MB/s",
        ),
        Row("load_dataset", found["load"]["rows"], found["load"]["seconds"], found["load"]["peak_mb"]),
        Row(
            "load_dataset, streaming",
            stream["rows"],
            stream["seconds"],
            stream["peak_mb"],
            f"{stream['rows_per_second']:.0f} rows/s",
        ),
    ]
    return rows + reader_rows(reader)


def reader_rows(found: dict[str, Any]) -> list[Row]:
    rows = []
    for kind, one in found.items():
        what = f"reader of {kind}, {one['ranks']} ranks of {one['workers']} workers (seconds to open, anonymous memory as PSS)"
        rate = f"{one['windows_per_s']:,.0f} windows/s"
        rows.append(Row(what, one["sequences"], one["open_s"], one["pss_anonymous_mb"], rate))
    return rows


def kills(found: dict[str, Any]) -> list[Row]:
    clips = sum(found["states"].values())
    same = "same dataset" if found["same_dataset"] and found["same_states"] else "OTHER DATASET"
    return [
        Row(
            "build under random SIGKILLs",
            clips,
            found["stormy_s"],
            survived=f"{found['kills']} kills, {same}",
        )
    ]


def runners(found: dict[str, Any]) -> list[Row]:
    same = "same dataset" if found["same_dataset"] else "OTHER DATASET"
    return [
        Row(f"build clips, runner {name}", found["clips"], found[name]["seconds"], survived=same)
        for name in ("local", "ray")
    ]


def faults(found: dict[str, Any]) -> list[Row]:
    results = [result for name, result in found["faults"].items() if name != "calm"]
    passed = sum(result["passed"] for result in results)
    seconds = sum(result["seconds"] for result in results)
    said = f"{passed} of {len(results)} faults, same dataset"
    return [Row("build under faults of disks, clocks, ledgers", len(results), seconds, survived=said)]


def hub(found: dict[str, Any]) -> list[Row]:
    calm, stormy, files, mb = found["undisturbed"], found["with_faults"], found["files"], found["megabytes"]
    same = "same bytes" if calm["pulled_is_pushed"] and stormy["pulled_is_pushed"] else "OTHER BYTES"
    said = f"{stormy['kills_survived']} kills, {stormy['faults']} faults, {stormy['commits']} commit, {same}"
    rows = []
    for what in ("push", "pull"):
        rate = calm[f"{what}_mb_per_s"]
        rows.append(Row(f"{what}, {mb:.0f} MB over loopback", files, mb / rate, rate=f"{rate:.0f} MB/s"))
    rows[0] = rows[0]._replace(memory_mb=calm["peak_memory_mib"] * 1.048576)
    seconds = stormy["push_s"] + stormy["pull_s"]
    return [*rows, Row("push and pull under faults", files, seconds, survived=said)]


def hostile(found: dict[str, Any]) -> list[Row]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(found["states"].items()))
    said = f"WRONG: {', '.join(found['wrong'])}" if found["wrong"] else f"all: {states}"
    return [
        Row(
            "build of hostile files",
            found["files"],
            found["seconds"],
            found["largest_process_mb"],
            survived=said,
        )
    ]


def fuzz(found: dict[str, Any]) -> list[Row]:
    said = f"{found['read']:,} read, {found['refused']:,} refused, {found['wrong']} wrong"
    what = f"mutated files for {len(found['readers'])} readers"
    return [Row(what, found["tried"], found["seconds"], found["peak_mb"], survived=said)]


#: Every part: what it gives for the table, and whether it needs videos.
PARTS: dict[str, tuple[Callable[[dict[str, Any]], list[Row]], bool]] = {
    "ledger": (ledger, False),
    "grouping": (grouping, False),
    "full_size": (full_size, False),
    "runners": (runners, True),
    "kills": (kills, True),
    "faults": (faults, True),
    "hub": (hub, False),
    "hostile": (hostile, True),
    "fuzz": (fuzz, False),
    "cost": (lambda found: [], True),
}
#: Commands that a part runs under.
UNDER = {"faults": ["unshare", "--mount"]}


def table() -> str:
    """Return the table of all figures that are there, as Markdown."""
    lines = [
        "| what | items | seconds | peak MB | rate | survived | machine |",
        "|---|---:|---:|---:|---|---|---|",
    ]
    for name, (rows_of, _) in PARTS.items():
        file = HERE / f"{name}.json"
        if not file.is_file():
            continue
        found = json.loads(file.read_text())
        of = found["machine"]
        machine = f"{of['cpu'].replace(' Processor', '')}, {of['cores']} cores, {of['date']}"
        for row in rows_of(found):
            cells = (
                row.what,
                "" if row.items is None else f"{row.items:,}",
                "" if row.seconds is None else f"{row.seconds:,.4g}",
                "" if row.memory_mb is None else f"{row.memory_mb:,.0f}",
                row.rate,
                row.survived,
                machine,
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


def write_table() -> None:
    """Replace the table in docs/scale.md."""
    text = DOCS.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{DOCS}: no place for the table ({BEGIN.strip()} ... {END.strip()})")
    DOCS.write_text(before + begin + table() + end + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="*")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    failed = []
    for name in [] if options.table else options.parts:
        _, needs_videos = PARTS[name]
        if needs_videos and not options.videos:
            print(f"{name}: left out, no VIDEOS were given", flush=True)
            continue
        under = UNDER.get(name, [])
        if under and shutil.which(under[0]) is None:
            print(f"{name}: left out, there is no {under[0]} here", flush=True)
            continue
        print(f"{name} ...", flush=True)
        command = [*under, sys.executable, "-m", f"benchmarks.{name}"]
        command += [str(video) for video in options.videos] if needs_videos else []
        if subprocess.run(command, cwd=HERE.parent, check=False).returncode:
            failed.append(name)
    write_table()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
