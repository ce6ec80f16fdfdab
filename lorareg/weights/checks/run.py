"""Every check of a composition, all problems at once: hard ones refuse, soft ones warn.

Integrity is not here: ``members.resolve`` hands out nothing whose bytes are not the lock's.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lorareg.errors import LoraregError, listed
from lorareg.registry import rights, triggers
from lorareg.registry.access import permission
from lorareg.registry.access.grants import Use
from lorareg.registry.bases import license as base_license
from lorareg.registry.bases import tokenizer
from lorareg.registry.expression import Part
from lorareg.registry.finding import Finding
from lorareg.registry.ids import Ref
from lorareg.registry.rights import Grant
from lorareg.registry.terms import Terms
from lorareg.registry.workspace import Workspace
from lorareg.weights import algebra, conflict
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.checks import bases, conversations, reach
from lorareg.weights.conflict import Conflicts
from lorareg.weights.flags import Flag, flags
from lorareg.weights.members import Component, Composition, read


@dataclass(frozen=True)
class Report:
    """What was found on a composition.

    Attributes:
        findings: hard problems, soft ones, then what holds.
        terms: what may be done with the composition.
        conflicts: None if the weights of a member could not be read.
    """

    findings: tuple[Finding, ...]
    terms: Terms
    conflicts: Conflicts | None = None
    flags: tuple[Flag, ...] = field(default=())

    @property
    def hard(self) -> tuple[Finding, ...]:
        """Reasons to refuse."""
        return tuple(each for each in self.findings if not each.ok and each.is_hard)

    @property
    def soft(self) -> tuple[Finding, ...]:
        """Warnings."""
        return tuple(each for each in self.findings if not each.ok and not each.is_hard)

    def refuse(self) -> None:
        """Say no if anything is hard.

        Raises:
            LoraregError: lists every hard problem.
        """
        if not self.hard:
            return
        found = [f"{each.what}: {each.detail}" for each in self.hard]
        fixes = dict.fromkeys(each.fix for each in self.hard if each.fix)
        raise LoraregError(
            "these adapters may not be composed",
            why="\n" + listed(found) if len(found) > 1 else found[0],
            fix="; ".join(fixes),
        )


def check(
    workspace: Workspace,
    composition: Composition,
    *,
    strict: bool = False,
    merged: bool = False,
    use: Use = "compose",
    today: datetime.date | None = None,
) -> Report:
    """Check a composition whose members were found and verified.

    Args:
        workspace: the registry.
        composition: its members.
        strict: whether warnings are reasons to refuse.
        merged: whether a merged file is wanted, which some licences forbid.
        use: what is to be done with it, which somebody else may have to allow.
        today: the day on which terms must hold; by default the calendar's.
    """
    day = today or datetime.date.today()
    parts = composition.components
    findings = permission.check(
        workspace, composition.states, use, day, expiry=False, recipes=composition.recipe_states
    )
    findings += bases.check(workspace, parts)
    adapters, unread = _read(parts)
    findings += unread
    findings += bases.signatures(adapters)
    findings += reach.check(composition, adapters)
    findings += _triggers(workspace, parts)
    findings += conversations.check(workspace, parts) * (composition.task == "text-generation")
    grants = _grants(workspace, parts)
    findings += rights.check(grants, merged=merged, today=day)
    findings += [f for part in parts for f in rights.consent(part.state.ref, part.manifest, day)]
    conflicts = None if unread else _examine(composition, [adapter for _, adapter in adapters])
    raised = _flags(composition, conflicts) if conflicts else ()
    findings += [Finding(False, f.code, f.sentence, f.suggestion, is_hard=False) for f in raised]
    if strict:
        findings = [replace(each, is_hard=True) for each in findings]
    ordered = sorted(findings, key=lambda each: (each.ok, not each.is_hard))
    return Report(tuple(ordered), rights.meet(grants), conflicts, raised)


def written(composition: Composition) -> list[Part]:
    """The members as an expression has them, every weight written out."""
    return [
        Part(Ref.parse(part.state.ref), part.strength.weight, part.strength.blocks, part.windows)
        for part in composition.components
    ]


def terms_of(workspace: Workspace, composition: Composition) -> Terms:
    """What may be done with a composition: for its card and its recipe."""
    return rights.meet(_grants(workspace, composition.components))


def _read(
    components: Sequence[Component],
) -> tuple[list[tuple[str, LoraAdapter]], list[Finding]]:
    """Every member's weights; what cannot be read to the last key is a finding."""
    adapters, problems = [], []
    for part in components:
        try:
            adapters.append((part.state.ref, read(part)))
        except LoraregError as error:
            what = f"weights of {part.state.ref}"
            problems.append(Finding(False, what, error.sentence, error.fix))
    return adapters, problems


def _flags(composition: Composition, conflicts: Conflicts) -> tuple[Flag, ...]:
    """The flags that its schedule and method leave."""
    if composition.schedule.mode == "switch":
        return ()  # one at a time: nothing meets
    found = flags(conflicts, written(composition))
    plain = composition.method.name == "sum"  # the others are there to part what overlaps
    return tuple(flag for flag in found if plain or flag.code != "overlap")


def _examine(composition: Composition, adapters: Sequence[LoraAdapter]) -> Conflicts | None:
    """The members at their strengths against each other; None where their shapes do not fit."""
    if len(adapters) > 1 and any(adapter.is_dora for adapter in adapters):
        return None
    shapes: dict[str, tuple[int, ...]] = {}
    for adapter in adapters:
        for name, layer in adapter.layers.items():
            own = (layer.up.shape[0], *layer.down.shape[1:])
            if shapes.setdefault(name, own) != own:
                return None
    strengths = [part.strength for part in composition.components]
    scaled = [algebra.at(a, s) for a, s in zip(adapters, strengths, strict=True)]
    return conflict.examine(scaled, [part.state.ref for part in composition.components])


def _triggers(workspace: Workspace, components: Sequence[Component]) -> list[Finding]:
    known = {part.state.ref: part.manifest.trigger for part in components}
    given = {name: trigger for name, trigger in known.items() if trigger}
    if not given:
        return []
    home = bases.folder(workspace, components[0])
    config = components[0].manifest.base.config
    if home and home.is_file():  # a checkpoint: its words are in the folder of its configs
        home = (workspace.root / config).resolve() if config else None
    layout = "diffusers" if components[0].manifest.task == "text-to-image" else "transformers"
    try:
        readers = tokenizer.readers(layout, home)
    except LoraregError as error:
        return [Finding(False, "triggers", error.sentence, error.fix, is_hard=False)]
    return triggers.check(given, readers)


def _grants(workspace: Workspace, components: Sequence[Component]) -> list[Grant]:
    grants = [g for part in components for g in rights.of_member(part.state.ref, part.manifest)]
    models = {part.lock.inputs.base.model: part for part in components}
    for model, part in models.items():
        known = base_license.of(part.manifest.base.model, bases.folder(workspace, part))
        grants.append(rights.of_base(model, known))
    return grants
