"""The claims page's generated part: a table a paper, why each verdict is what it is, and the log of deviations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gaplib.claims import Claim, Deviation
from gaplib.stats import Estimate

# The groups in the order of the page: the letter of a claim's id that is followed by a number, and the heading.
GROUPS = {
    "L": "Mind the gap (Liang et al. 2022)",
    "F": "The contrastive gap (Fahim et al. 2024)",
    "Y": "Explaining and mitigating the gap (Yaras et al. 2024)",
    "J": "Latent modality structures (Jiang et al. 2023)",
    "": "Around them",
}


def escape(text: str) -> str:
    """Text that MyST shows as it is, also inside a table."""
    return re.sub(r"([\\`*_{}\[\]<>|$~#])", r"\\\1", text).replace("\n", " ")


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """An estimate as the page prints it."""
    if value is None:
        return ""
    return str(Estimate(value, low, high, 1, "exact" if low == high else "interval", 0.0))


def page(
    rows: Sequence[Mapping[str, Any]],
    claims: Mapping[str, Claim],
    deviations: Sequence[Deviation],
    pages: Mapping[str, str],
) -> str:
    """The MyST fragment. rows: as in claims.json. pages: chapter -> file name of its notebook, if it is written."""
    blocks = []
    for letter, heading in GROUPS.items():
        members = [row for row in rows if _group(row["id"]) == letter]
        if members:
            blocks += [f"## {heading}", _table(members, pages), *(_details(row, claims[row["id"]]) for row in members)]
    blocks += ["## Deviations", _log(deviations)]
    return "\n\n".join(blocks) + "\n"


def _group(claim: str) -> str:
    return claim[0] if claim[0] in "LFYJ" else ""


def _table(rows: Sequence[Mapping[str, Any]], pages: Mapping[str, str]) -> str:
    head = "| claim | statement | what is measured | estimate, 95 % interval | this build | verdict | chapter |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for row in rows:
        chapter = row["chapter"]
        link = f"[{chapter}](../notebooks/{pages[chapter]})" if chapter in pages else chapter
        live = row["live"] or {}
        cells = [
            row["id"],
            escape(row["statement"]),
            escape(row["headline"]),
            escape(_with_unit(interval(row["effect"], row["low"], row["high"]), row["unit"])),
            escape(interval(live.get("effect"), live.get("low"), live.get("high"))),
            f"**{row['verdict']}**",
            link,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}".strip() if text else ""


def _details(row: Mapping[str, Any], claim: Claim) -> str:
    """The folded block under the table: source, test, verdict explained, rule with its hash, note."""
    rule = "draft, may change until the commit before its run" if claim.status == "draft" else "frozen"
    provenance = ""
    if row["profile"]:
        provenance = (
            f", profile {row['profile']}, n = {row['n']}, {escape(row['device'])}, commit {row['commit'] or '?'}"
        )
    lines = [
        f"```{{admonition}} {row['id']}: {row['verdict']}",
        ":class: dropdown",
        f"- Source: {escape(claim.source)}",
        f"- Test: {escape(claim.test)}",
        f"- Refuted if: {escape(claim.refuted_if)}",
        f"- Verdict: {escape(row['explanation'])}",
        f"- Rule ({rule}, hash `{row['rule_hash'][:12]}`{provenance}): {escape(row['rule'])}",
    ]
    lines += [f"- Note: {escape(claim.note)}"] if claim.note else []
    return "\n".join([*lines, "```"])


def _log(deviations: Sequence[Deviation]) -> str:
    if not deviations:
        return "No rule was changed after its confirming run."
    lines = ["| claim | date | old rule | new rule | why |", "|---|---|---|---|---|"]
    lines += [f"| {d.id} | {d.date} | `{d.old[:12]}` | `{d.new[:12]}` | {escape(d.why)} |" for d in deviations]
    return "\n".join(lines)
