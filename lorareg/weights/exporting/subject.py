"""What is exported: an adapter, or a composition, with what people and programs are told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import recipe
from lorareg.registry.access import permission, uses
from lorareg.registry.bases import base as bases
from lorareg.registry.expression import Expression
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.manifest import ImageManifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.strength import Strength
from lorareg.registry.workspace import Workspace
from lorareg.weights import compose, members
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.checks import run
from lorareg.weights.members import Component, Composition

ALONE = Strength(1.0)


@dataclass(frozen=True)
class Subject:
    """One thing to export.

    Attributes:
        workspace: the registry that it is exported from.
        name: of files; a slug.
        ref: the asset, or the composition as an expression.
        order: what ``lorareg export`` is told to write it: a recipe stays one, with its method.
        title: for people.
        composition: its members.
        negative_prompt: of a recipe.
        home: folder of the base if that is on this disk, to read what shape it has.
        base_name: what consumers are told to load.
    """

    workspace: Workspace
    name: str
    ref: str
    order: str
    title: str
    composition: Composition
    negative_prompt: str
    home: Path | None
    base_name: str

    def record(self, out: Path | None, **facts: str | None) -> None:
        """Write down that it is exported; raises as ``uses.record``."""
        name = out.name if out else None
        details = {"members": self.composition.used, "out": name, **facts}
        uses.record(self.workspace, "export", self.order, details)

    @property
    def parts(self) -> tuple[Component, ...]:
        """The members."""
        return self.composition.components

    @property
    def is_alone(self) -> bool:
        """Whether it is one adapter as it is, with nothing added or weighted."""
        return len(self.parts) == 1 and self.parts[0].strength == ALONE

    @property
    def triggers(self) -> list[str]:
        """Trigger words of the members, each once."""
        words = [part.manifest.trigger for part in self.parts]
        return list(dict.fromkeys(word for word in words if word))

    @property
    def prompt(self) -> str:
        """A prompt that shows it: the first sample's of one adapter, else the trigger words."""
        samples = self.parts[0].manifest.sample.prompts if len(self.parts) == 1 else ()
        return samples[0] if samples else ", ".join(self.triggers)

    @property
    def resolution(self) -> int:
        """Side of a picture in pixels."""
        sides = [
            part.manifest.train.resolution
            for part in self.parts
            if isinstance(part.manifest, ImageManifest) and part.manifest.origin is None
        ]
        if sides:
            return max(sides)
        if self.home and (self.home / "model_index.json").is_file():
            return bases.default_resolution(self.home)
        return ImageTraining().resolution


def find(workspace: Workspace, text: str, *, recommended: bool, base_name: str | None) -> Subject:
    """Find what a REF or an expression means.

    Args:
        workspace: the registry.
        text: a reference or an expression.
        recommended: whether one adapter without a weight has its recommended one, as in a prompt;
            else it is exported as it is.
        base_name: what consumers are to be told of the base; None takes the manifest's.
    """
    expression = Expression.parse(text)
    first = expression.parts[0]
    asset = workspace.find_asset(first.ref, any_version=True)
    single = len(expression.parts) == 1
    if single and asset.kind != recipe.KIND and first.weight is None and not recommended:
        expression = Expression((replace(first, weight=1.0),))
    composition = members.resolve(workspace, expression)
    permission.require_all(
        workspace, composition.states, "export", recipes=composition.recipe_states
    )
    own = workspace.load_asset(asset) if single else None
    manifest = composition.components[0].manifest
    names = [part.asset.name for part in composition.components]
    return Subject(
        workspace=workspace,
        name=asset.name if single else "-with-".join(names)[:64],
        ref=str(asset) if single else str(expression),
        order=str(expression) if single and asset.kind == recipe.KIND else composition.expression,
        title=(" · ".join(own.title.values()) if own else "") or " + ".join(names),
        composition=composition,
        negative_prompt=(own.negative_prompt or "") if isinstance(own, RecipeManifest) else "",
        home=_home(workspace, composition),
        base_name=base_name or bases.public_name(manifest.base),
    )


def weights(workspace: Workspace, subject: Subject, text: str) -> LoraAdapter:
    """The one adapter that it comes to: an adapter as it is, or the exact sum.

    Raises:
        LoraregError: its terms forbid it, the members may not be merged, or the weights change
            from step to step.
    """
    closed = [part for part in subject.parts if not part.manifest.scope.merge]
    if closed and not subject.is_alone:
        raise LoraregError(
            f"{closed[0].asset} may not go into merged weights",
            why="its manifest says scope.merge: false",
            fix=f"export it alone: lorareg export {closed[0].asset} --format FORMAT; a workflow or "
            "a prompt may name it beside others",
        )
    # terms may have run out, or changed since a recipe was composed
    run.check(workspace, subject.composition, merged=len(subject.parts) > 1).refuse()
    if subject.is_alone and not subject.parts[0].windows:
        return members.read(subject.parts[0])
    merged = compose.merge(subject.composition, _wanted(workspace, subject, text))
    if merged is None:
        raise LoraregError(
            f"{subject.ref} cannot be one file",
            why="its weights change from step to step",
            fix="leave {steps=...} and the schedule out, or use it here: lorareg generate",
        )
    return merged.adapter


def _wanted(workspace: Workspace, subject: Subject, text: str) -> RecipeManifest:
    expression = Expression.parse(text)
    found = members.recipe_alone(workspace, expression)
    return found or RecipeManifest.of(subject.name, members.parts_of(workspace, expression))


def _home(workspace: Workspace, composition: Composition) -> Path | None:
    """Where the base is on this disk; nothing is fetched for an export."""
    try:
        manifest = composition.components[0].manifest
        return bases.locate(manifest.base, workspace.root, fetch=False)
    except LoraregError:
        return None


def component_weights(part: Component) -> Mapping[str, float] | None:
    """Weights of the denoiser ("unet") and the text encoders ("te"); None if blocks have others."""
    known = {"unet", "transformer", "te"}
    if part.strength.blocks.keys() - known or part.windows:
        return None
    blocks, weight = part.strength.blocks, part.strength.weight
    return {
        "unet": blocks.get("unet", blocks.get("transformer", weight)),
        "te": blocks.get("te", weight),
    }
