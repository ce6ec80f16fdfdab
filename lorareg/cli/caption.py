"""``lorareg data caption``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lorareg.cli.options import complete_ref
from lorareg.cli.root import err, out
from lorareg.cli.show import Json, as_json
from lorareg.cli.watch import RunWatcher
from lorareg.errors import listed

if TYPE_CHECKING:
    from lorareg.trainers.data.label.run import Report


def caption(
    target: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIR",
            help="An adapter, or a folder of pictures.",
            autocompletion=complete_ref,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="Hub id (ORG/NAME or ORG/NAME@COMMIT), folder, or .onnx tagger; by default "
            "florence-community/Florence-2-base.",
        ),
    ] = None,
    merge: Annotated[
        Literal["keep", "append", "replace"],
        typer.Option(
            help="keep: caption only pictures without one; append: put the model's words behind "
            "what is there; replace: overwrite, also what was written by hand."
        ),
    ] = "keep",
    trigger: Annotated[
        str | None,
        typer.Option(metavar="W", help="Word new captions start with; default: the manifest's."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What the model is asked: a chat model's question, Florence-2's task "
            "(<CAPTION>, <MORE_DETAILED_CAPTION>), BLIP's first words, CLIP's sentence "
            "('a photo of {}').",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Confidence a tag (default 0.35; names 0.85) or CLIP's term (0.25) needs.",
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, max=1024, help="Longest text; CLIP reads 75 tokens of it.")
    ] = 75,
    batch_size: Annotated[
        int, typer.Option(min=1, max=1024, help="Pictures at a time; captions are saved as often.")
    ] = 8,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="ray: label on the workers of a Ray cluster.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Ray workers; default: one a GPU, else one a machine."),
    ] = None,
    review: Annotated[
        bool, typer.Option(help="Open the review page; without --model, do only that.")
    ] = False,
    json: Json = False,
) -> None:
    """Label pictures with a model; what it wrote is marked so that a person can review it.

    Captions go into metadata.csv, marks into captions.json, after every batch: a run that was
    stopped goes on where it was. What was written by hand is never overwritten unless told.
    Exit status 1 if a picture got no caption.

    Examples:
        lorareg data caption character/zhangsan

        lorareg data caption character/zhangsan --review

        lorareg data caption photos/ --model Qwen/Qwen3-VL-2B-Instruct --trigger zhangsan

        lorareg data caption photos/ --model taggers/wd-vit-v3 --merge append
    """
    from lorareg.trainers.data.target import resolve

    found, skipped = resolve(target), False
    if model or not review:
        with RunWatcher("labelling") as watcher:
            watcher.note("looking at the dataset")
            from lorareg.trainers.data.label import run
            from lorareg.trainers.data.label.captioner import Asking

            asking = Asking(prompt, max_tokens, threshold)
            order = run.Order(model, asking, merge, trigger, batch_size, executor, workers)
            report = run.caption(found, order, watcher.stage)
        _show(found.name, report, json)
        skipped = bool(report.skipped)
    if review:
        from lorareg.cli.review import open_page

        open_page(found)
    raise typer.Exit(1 if skipped else 0)


def _show(name: str, report: Report, json: bool) -> None:
    counts = {
        "labelled": report.labelled,
        "appended": report.appended,
        "replaced": report.replaced,
        "kept": report.kept,
    }
    if json:
        as_json({"dataset": name, "by": report.by, **counts, "skipped": report.skipped})
    else:
        said = ", ".join(f"{count} {word}" for word, count in counts.items())
        out.print(f"{name}: {said}, {len(report.skipped)} skipped", markup=False)
        if report.by:
            err.print(f"  by {report.by}", markup=False)
    if report.skipped:
        err.print("pictures without a caption:")
        err.print(listed([f"{n}: {why}" for n, why in report.skipped.items()]), markup=False)
