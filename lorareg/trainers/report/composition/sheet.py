"""Everything a report says, gathered from the registry; the page only lays it out."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import lorareg
from lorareg.errors import LoraregError
from lorareg.registry import lock as locks
from lorareg.registry.expression import Expression
from lorareg.registry.lock import Member, Output, RecipeLock
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers.report.composition.absent import Absent
from lorareg.trainers.report.composition.measured import Measured
from lorareg.trainers.report.composition.onefile import OneFile, one_file
from lorareg.weights import compose, members, recipes
from lorareg.weights.checks import run
from lorareg.weights.checks.run import Report
from lorareg.weights.compose import Measure
from lorareg.weights.exporting import export as exporting
from lorareg.weights.members import Component, Composition

if TYPE_CHECKING:
    from lorareg.trainers.report.composition.preview import Preview

FORMS = {
    "a1111": "A1111 and Forge: prompt",
    "comfyui": "ComfyUI: workflow in API form",
    "snippet": "Python",
    "vllm": "vLLM",
    "lorax": "LoRAX",
}
FILES = {"diffusers", "kohya", "peft", "gguf"}
NOT_RUN = "Not run."


@dataclass(frozen=True)
class Row:
    """One member, pinned.

    Attributes:
        titles: language -> how people call it.
        measure: None if its weights could not be measured.
    """

    pin: Member
    titles: Mapping[str, str]
    trigger: str | None
    measure: Measure | None


@dataclass(frozen=True)
class Export:
    """How another program is told of the composition."""

    title: str
    text: str | Absent


@dataclass(frozen=True)
class Sheet:
    """The content of a report.

    Attributes:
        name: REF or expression, as it was asked for.
        slug: for names of files.
        titles: of a recipe.
        standing: of a recipe: whether its lock pins what is shown.
        commands: lines to paste that write files.
    """

    name: str
    slug: str
    titles: Mapping[str, str]
    composition: Composition
    expression: str
    fingerprint: str
    standing: str
    rows: tuple[Row, ...]
    report: Report
    one: OneFile | Absent
    exports: tuple[Export, ...]
    commands: tuple[str, ...]
    preview: Preview | Absent = field(default=Absent(NOT_RUN))
    survival: Measured | Absent = field(default=Absent(NOT_RUN))
    today: str = field(default_factory=lambda: datetime.date.today().isoformat())
    version: str = lorareg.__version__

    @property
    def terms(self) -> dict[str, Any]:
        """What may be done with it, without the credits."""
        return {
            key: value for key, value in self.report.terms.document().items() if key != "credits"
        }


def gather(workspace: Workspace, text: str) -> Sheet:
    """Everything that can be said without a model.

    Raises:
        LoraregError: what ``members.resolve`` raises; refusals of the checks are on the sheet.
    """
    typed = Expression.parse(text)
    kept = members.recipe_alone(workspace, typed)
    composition = members.of_recipe(workspace, kept) if kept else members.resolve(workspace, typed)
    report = run.check(workspace, composition)
    wanted = kept or RecipeManifest.of("report", members.parts_of(workspace, typed))
    fingerprint = recipes.fingerprint(composition, wanted)
    known = _lock(workspace, kept) if kept and not typed.parts[0].ref.at else None
    outputs = known.outputs if known and known.fingerprint == fingerprint else {}
    expression = "+".join(map(str, run.written(composition)))
    return Sheet(
        name=text,
        slug=kept.name if kept else _slug(composition),
        titles=kept.title if kept else {},
        composition=composition,
        expression=expression,
        fingerprint=fingerprint,
        standing=_standing(known, fingerprint) if kept else "",
        rows=_rows(composition, report),
        report=report,
        one=_one(composition, wanted, report, outputs),
        exports=_exports(workspace, composition.task, text, report),
        commands=_commands(composition.task, text, report),
        preview=Absent(NOT_RUN, f"lorareg compose report '{text}' --grid PROMPT"),
        survival=Absent(
            NOT_RUN,
            f"lorareg compose evaluate '{text}' --out survival.json, then "
            f"lorareg compose report '{text}' --survival survival.json",
        ),
    )


def _slug(composition: Composition) -> str:
    return "-with-".join(part.asset.name for part in composition.components)[:64]


def _lock(workspace: Workspace, kept: RecipeManifest) -> RecipeLock | None:
    path = workspace.folder(kept.id).lock
    found = locks.load(path) if path.is_file() else None
    return found if isinstance(found, RecipeLock) else None


def _standing(known: RecipeLock | None, fingerprint: str) -> str:
    if known is None:
        return "Nothing of it is locked here."
    if known.fingerprint == fingerprint:
        return "Its lock pins exactly this."
    return f"Its lock pins another composition: see lorareg compose upgrade {known.asset}."


def _rows(composition: Composition, report: Report) -> tuple[Row, ...]:
    parts = composition.components
    measures: list[Measure | None] = [None] * len(parts)
    if report.conflicts:
        measures = [*compose.measure(composition)]
    return tuple(_row(part, measure) for part, measure in zip(parts, measures, strict=True))


def _row(part: Component, measure: Measure | None) -> Row:
    return Row(recipes.pin(part), part.manifest.title, part.manifest.trigger, measure)


def _one(
    composition: Composition,
    wanted: RecipeManifest,
    report: Report,
    outputs: Mapping[str, Output],
) -> OneFile | Absent:
    if report.hard:
        return Absent("These adapters may not be composed.")
    return one_file(composition, wanted, outputs)


def _exports(workspace: Workspace, task: str, text: str, report: Report) -> tuple[Export, ...]:
    """Words for every program of the task; what one of them cannot say is said instead."""
    if report.hard:
        return ()
    found = []
    for form in get_args(exporting.Words):
        if form not in exporting.TASKS[task]:
            continue
        try:
            told = exporting.export(workspace, exporting.Wish(text, form)).text or ""
        except LoraregError as error:
            found.append(Export(FORMS[form], Absent(error.sentence, error.fix)))
        else:
            found.append(Export(FORMS[form], told))
    return tuple(found)


def _commands(task: str, text: str, report: Report) -> tuple[str, ...]:
    if report.hard:
        return ()
    forms = [form for form in exporting.TASKS[task] if form in FILES]
    return tuple(f"lorareg export '{text}' --format {form}" for form in forms)
