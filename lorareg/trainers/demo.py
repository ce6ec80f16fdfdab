"""The guided tour: lorareg's whole job on a real model and real data, offline, in minutes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL.Image import Image

from lorareg.errors import LoraregError
from lorareg.registry import scaffold, setup
from lorareg.registry.bases.builtin import demo_data
from lorareg.registry.expression import Expression
from lorareg.registry.git import clone
from lorareg.registry.git.history import History
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.sharing import pushing, receiving
from lorareg.registry.workspace import Workspace
from lorareg.trainers import run
from lorareg.trainers.core.watching import Watcher
from lorareg.trainers.execute import Options
from lorareg.trainers.generate import Generator
from lorareg.trainers.lineup import side_by_side
from lorareg.trainers.report.grid import save_grid
from lorareg.trainers.reproduce import reproduce
from lorareg.trainers.reproduction import Reproduction
from lorareg.weights import compose, members, recipes
from lorareg.weights.checks import run as checks

CHARACTER = AssetId("character", "zhangsan")
STYLE = AssetId("style", "lorelei-ink")
RECIPE = "ink-zhangsan"
EXPRESSION = f"{STYLE}:0.6+{CHARACTER}:1.0"
PROMPTS = (
    "zzhangsan, portrait, smiling, lorelei style, white background",
    "zzhangsan, portrait, surprised, lorelei style, yellow background",
    "zzhangsan, portrait, happy, lorelei style, blue background",
    "zzhangsan, portrait, sad, lorelei style, pink background",
)
SEED = 7


@dataclass(frozen=True)
class _Lesson:
    """What is trained, and on which packaged pictures."""

    asset: AssetId
    data: str
    trigger: str
    title: dict[str, str]
    epochs: int


LESSONS = (
    _Lesson(CHARACTER, "char_zhangsan", "zzhangsan", {"zh": "张三", "en": "Zhang San"}, 30),
    _Lesson(STYLE, "style_lorelei_ink", "lorelei style", {"en": "Lorelei ink"}, 26),
)


@dataclass
class Tour:
    """What the tour found: rows of (what, digest or figure, verdict)."""

    root: Path
    picture: Path
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def went_well(self) -> bool:
        """Whether every verdict is a good one."""
        return all(verdict not in ("differs", "FAIL") for _, _, verdict in self.rows)


def give(folder: Path, say: Callable[[str], None], watcher: Watcher) -> Tour:
    """Make a registry, train, compose, draw, push, clone as a teammate, pull and reproduce.

    Args:
        folder: empty or not there; gets registry/, storage/, origin.git/ and teammate/.
        say: is told the command that a person would type for each step.
        watcher: of the training runs.
    """
    if folder.exists() and any(folder.iterdir()):
        raise LoraregError(
            f"{folder} is not empty", fix="name a new folder: lorareg demo another-folder"
        )
    top = folder.resolve()
    say(f"lorareg init {folder}/registry --remote {folder}/storage")
    workspace = setup.init(top / "registry", str(top / "storage"))
    _know_the_committer(workspace.history)
    tour = Tour(top, top / "demo.png")
    for lesson in LESSONS:
        _train(workspace, lesson, tour, say, watcher)
    _compose(workspace, tour, say)
    _share(workspace, top, tour, say)
    _reproduce(Workspace(top / "teammate"), tour, say, watcher)
    return tour


def _train(
    workspace: Workspace,
    lesson: _Lesson,
    tour: Tour,
    say: Callable[[str], None],
    watcher: Watcher,
) -> None:
    data = f"data/{lesson.data}"
    shutil.copytree(demo_data() / lesson.data, workspace.root / data)
    say(f"lorareg new {lesson.asset} --data {data} --trigger '{lesson.trigger}'")
    wish = scaffold.Wish(lesson.asset, None, None, data, lesson.trigger)
    scaffold.write(workspace, wish)
    prompt = PROMPTS[0]
    workspace.edit_manifest(
        lesson.asset,
        {"title": lesson.title, "train.epochs": lesson.epochs, "sample.prompts": [prompt]},
    )
    say(f"lorareg train {lesson.asset}")
    outcome = run.train(workspace, lesson.asset, Options(), watcher)
    result = outcome.lock.result
    before, after = result.base_validation_loss or 0.0, result.validation_loss or 0.0
    tour.rows.append(
        (
            f"{lesson.asset} held-out loss",
            f"{before:.4f} (base) -> {after:.4f}",
            "better" if after < before else "FAIL",
        )
    )
    for name, output in outcome.lock.outputs.items():
        tour.rows.append((f"{lesson.asset} {name}", output.sha256, "locked"))


def _compose(workspace: Workspace, tour: Tour, say: Callable[[str], None]) -> None:
    say(f"lorareg compose {EXPRESSION} --as {RECIPE} --output exact")
    typed = Expression.parse(EXPRESSION)
    both = members.resolve(workspace, typed)
    checks.check(workspace, both, merged=True).refuse()
    wish = RecipeManifest.of(RECIPE, members.parts_of(workspace, typed))
    locked = recipes.save(workspace, both, wish, compose.merge(both, wish), write_file=True)
    for name, output in locked.outputs.items():
        tour.rows.append((f"recipe/{RECIPE} {name}", output.sha256, "exact sum"))
    say(f"lorareg generate recipe/{RECIPE} --grid --prompt '{PROMPTS[0]}'")
    like = both.components[0].manifest
    generator = Generator(workspace, like, like.sample)
    rows = []
    for entry in side_by_side(both):
        samples = generator.samples(entry.composition, PROMPTS, SEED)
        rows.append((entry.label, [s.output for s in samples if isinstance(s.output, Image)]))
    save_grid(tour.picture, rows, PROMPTS)


def _share(workspace: Workspace, top: Path, tour: Tour, say: Callable[[str], None]) -> None:
    say("lorareg push")
    workspace.history.add_remote("origin", str(clone.init_bare(top / "origin.git")))
    assets = list(workspace.assets())
    pushed = pushing.push(workspace, assets, lambda text: None)
    tour.rows.append(("git commit", pushed.commit or "", "pushed"))
    say(f"git clone {top.name}/origin.git teammate && cd teammate && lorareg pull")
    mate = Workspace(clone.clone(str(top / "origin.git"), top / "teammate").root)
    _know_the_committer(mate.history)
    pulled = receiving.pull(mate, assets, lambda text: None)
    files = sum(pulled.verified.values())
    tour.rows.append(("teammate's pull", f"{files} files compared with the locks", "verified"))


def _reproduce(
    mate: Workspace, tour: Tour, say: Callable[[str], None], watcher: Watcher
) -> Reproduction:
    say(f"lorareg reproduce {CHARACTER}")
    again = reproduce(mate, Ref.parse(str(CHARACTER)), watcher)
    for name, (_, now) in again.outputs.items():
        tour.rows.append((f"{CHARACTER} {name}, trained again", now, again.verdict))
    return again


def _know_the_committer(found: History) -> None:
    """The tour commits; on a machine where git knows nobody it does so under its own name."""
    try:
        found.identity()
    except LoraregError:
        found.set_identity("lorareg demo", "demo@lorareg.invalid")
