"""Compute the outcome of every sequence, the progress of an inspection, and the retention."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from opendance_hf.pipeline.inspection.agreement import agreement
from opendance_hf.pipeline.inspection.store import REASONS, Inspection


@dataclass(frozen=True)
class Outcome:
    """State of a sequence in both rounds.

    Attributes:
        state: ``kept`` (in both rounds), ``rejected`` (in either), or ``open``.
        round: the round in which it was rejected, or that is open; 2 if it was kept.
        reasons: keys of :data:`REASONS`, most frequent first; empty unless rejected.
        disputed: True if annotators disagree and nobody has adjudicated yet.
    """

    state: Literal["kept", "rejected", "open"]
    round: int
    reasons: tuple[str, ...] = ()
    disputed: bool = False

    @property
    def text(self) -> str:
        """Description for the ledger and the page."""
        if self.state == "rejected":
            labels = (REASONS[self.round][reason] for reason in self.reasons)
            listed = "; ".join(label[:1].lower() + label[1:] for label in labels)
            return f"rejected by people in round {self.round}: {listed}"
        if self.state == "kept":
            return "kept by people in both rounds"
        return f"not decided yet in round {self.round}" + (": people disagree" if self.disputed else "")


def outcomes(inspection: Inspection) -> dict[str, Outcome]:
    """Return the outcome of every sequence of the build, by id."""
    reasons = _reasons(inspection)
    out: dict[str, Outcome] = {}
    for row in inspection.db.execute("SELECT * FROM inspection_outcomes ORDER BY sequence, round"):
        sequence, number = row["sequence"], row["round"]
        if sequence in out and out[sequence].state != "kept":
            continue  # rejected or undecided in round 1
        if row["outcome"] == "reject":
            out[sequence] = Outcome("rejected", number, tuple(reasons[number, row["subject"]]))
        elif row["outcome"] == "keep":
            out[sequence] = Outcome("kept", number)
        else:
            out[sequence] = Outcome("open", number, disputed=row["outcome"] == "disputed")
    return out


def _reasons(inspection: Inspection) -> dict[tuple[int, str], list[str]]:
    """Return the reasons for the rejection of each item, from the ruling or else from the votes, most frequent first."""
    found: dict[tuple[int, str], dict[str, Counter[str]]] = {}
    for row in inspection.db.execute(
        "SELECT round, subject, kind, reasons FROM inspection_decisions"
        " WHERE withdrawn_at IS NULL AND verdict = 'reject' ORDER BY number"
    ):
        kinds = found.setdefault((row["round"], row["subject"]), {})
        kinds.setdefault(row["kind"], Counter()).update(row["reasons"].split())
    return {
        key: [reason for reason, _ in (kinds.get("ruling") or kinds["vote"]).most_common()]
        for key, kinds in found.items()
    }


def progress(inspection: Inspection) -> dict[str, Any]:
    """Return progress, retention and agreement as JSON data for the overview page."""
    found = outcomes(inspection)
    states = Counter(outcome.state for outcome in found.values())
    return {
        "votes_needed": inspection.votes_needed,
        "sequences": len(found),
        **{state: states[state] for state in ("kept", "rejected", "open")},
        "disputed": sum(outcome.disputed for outcome in found.values()),
        "retention": _share(states["kept"], states["kept"] + states["rejected"]),
        "rounds": [_round(inspection, number, counts) for number, counts in round_counts(inspection).items()],
        "people": _people(inspection),
    }


def round_counts(inspection: Inspection) -> dict[int, dict[str, int]]:
    """Count the items of each round by outcome; in round 2 only those kept in round 1."""
    rows = inspection.db.execute(
        "WITH outcomes AS MATERIALIZED (SELECT * FROM inspection_outcomes)"
        " SELECT o.round, o.outcome, count(*) AS n FROM outcomes AS o"
        " LEFT JOIN outcomes AS first ON first.sequence = o.sequence AND first.round = 1"
        " WHERE o.round = 1 OR first.outcome = 'keep' GROUP BY o.round, o.outcome"
    )
    counts = {number: dict.fromkeys(("total", "keep", "reject", "disputed", "open"), 0) for number in REASONS}
    for row in rows:
        counts[row["round"]][row["outcome"]] = row["n"]
        counts[row["round"]]["total"] += row["n"]
    return counts


def _round(inspection: Inspection, number: int, counts: dict[str, int]) -> dict[str, Any]:
    votes: dict[str, dict[str, str]] = {}
    reasons: Counter[str] = Counter()
    for row in inspection.db.execute(
        "SELECT subject, annotator, verdict, reasons FROM inspection_decisions"
        " WHERE round = ? AND kind = 'vote' AND withdrawn_at IS NULL"
        " AND subject IN (SELECT subject FROM inspection_items WHERE round = ?)",
        (number, number),
    ):
        votes.setdefault(row["subject"], {})[row["annotator"]] = row["verdict"]
        reasons.update(row["reasons"].split())
    return {
        "round": number,
        **counts,
        "retention": _share(counts["keep"], counts["keep"] + counts["reject"]),
        "agreement": asdict(agreement(list(votes.values()))),
        "reasons": dict(reasons.most_common()),
    }


def _people(inspection: Inspection) -> list[dict[str, Any]]:
    rows = inspection.db.execute(
        "SELECT annotator, kind, round, verdict, seconds FROM inspection_decisions WHERE withdrawn_at IS NULL"
    ).fetchall()
    adjudicates = {person.name: person.adjudicates for person in inspection.people()}
    out = []
    for name in sorted({row["annotator"] for row in rows} | set(adjudicates)):
        own = [row for row in rows if row["annotator"] == name]
        votes = [row for row in own if row["kind"] == "vote"]
        times_s = [row["seconds"] for row in own if row["seconds"] is not None]
        out.append(
            {
                "name": name,
                "adjudicates": adjudicates.get(name, False),
                "round1": sum(row["round"] == 1 for row in votes),
                "round2": sum(row["round"] == 2 for row in votes),
                "rulings": len(own) - len(votes),
                "keeps": _share(sum(row["verdict"] == "keep" for row in votes), len(votes)),
                "median_s": median(times_s) if times_s else None,
            }
        )
    return out


def _share(part: int, total: int) -> float | None:
    return part / total if total else None
