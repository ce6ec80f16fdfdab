"""``lorareg data redact``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorareg.cli.options import complete_ref
from lorareg.cli.show import Json, as_json, note, table
from lorareg.cli.watch import RunWatcher


def redact(
    target: Annotated[
        str,
        typer.Argument(
            metavar="REF|FILE.jsonl|DIR", help="Dialogues to redact.", autocompletion=complete_ref
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File or folder to write; must be new.")],
    json: Json = False,
) -> None:
    """Replace names, phones, ids, addresses and other personal data with placeholders.

    The same person gets the same placeholder within a conversation: [NAME_1]. The original stays
    as it is; a record beside the output says what was replaced, in numbers only.

    No rule finds everything: read what it wrote. Not covered are pictures, languages other than
    English and Chinese, and who somebody is by what is told of them.

    Examples:
        lorareg data redact data/support.jsonl --out data/support_clean.jsonl

        lorareg data redact tone/support --out data/support_clean
    """
    from lorareg.trainers.data import target as targets
    from lorareg.trainers.data.redact.run import redact_dataset

    with RunWatcher("redacting") as watcher:
        report = redact_dataset(targets.resolve(target).path, out, watcher.stage)
    counts = dict(sorted(report.replaced.items()))
    if json:
        facts = {"rows": report.rows, "rows_touched": report.touched, "replaced": counts}
        as_json({"out": str(out), **facts, "files": report.files, "left_out": report.left_out})
        return
    table(["kind", "replaced"], [[kind, f"{count:,}"] for kind, count in counts.items()])
    note(f"{report.touched:,} of {report.rows:,} rows touched; written to {out}")
    note("No rule finds everything: read some rows before you share them.")
    if report.left_out:
        note(f"not copied: {', '.join(report.left_out)}")
