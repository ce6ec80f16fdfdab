"""The card of a repository on the Hub: front matter that the Hub understands, and facts for people.

Keys: https://huggingface.co/docs/hub/model-cards and, for the gate's form,
https://huggingface.co/docs/hub/models-gated. The words of a card are seen by everybody even where
the files are behind a gate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lorareg.registry import licenses, publication, rights
from lorareg.registry.bases import license as base_license
from lorareg.registry.bases.base import public_name
from lorareg.registry.fields import is_hub_id
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import ImportedLock, RecipeLock, TrainedLock
from lorareg.registry.manifest import Manifest
from lorareg.registry.publishing import repos
from lorareg.registry.publishing import subject as subjects
from lorareg.registry.publishing.subject import Subject
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.revisions import released_manifest
from lorareg.registry.terms import Terms
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

LIBRARIES = {"text-to-image": "diffusers", "text-generation": "peft"}
COMMERCIAL = {
    "none": "no commercial use",
    "images": "commercial use of what it makes",
    "services": "commercial use of what it makes, and in services",
    "resale": "any commercial use",
}


def text(workspace: Workspace, subject: Subject, has_preview: bool) -> str:
    """The card as Markdown with YAML front matter."""
    from huggingface_hub import ModelCard, ModelCardData

    front = _front(workspace, subject, has_preview)
    data = ModelCardData(**{key: value for key, value in front.items() if value})
    body = "\n".join(_body(workspace, subject, has_preview)).rstrip()
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n")
    return str(card)


def terms_of(workspace: Workspace, subject: Subject) -> Terms:
    """What users may do: of a recipe what all of its members allow."""
    manifest = subject.manifest
    if isinstance(manifest, Manifest):
        return rights.meet(rights.of_member(str(subject.asset), manifest))
    found = Terms()
    for ref, member in _members(workspace, subject):
        found = found.meet(rights.meet(rights.of_member(ref, member)))
    return found


def _front(workspace: Workspace, subject: Subject, has_preview: bool) -> dict[str, Any]:
    manifest, known = subject.manifest, subject.lock
    title = _title(subject)
    front: dict[str, Any] = {
        **_bases(workspace, subject),
        "library_name": LIBRARIES[known.task],
        "pipeline_tag": known.task,
        "tags": ["lora", "lorareg", subject.asset.kind],
        "language": _languages(manifest.title),
        **_license(workspace, subject),
        "model_name": title,
        "eval_results": _metrics(subject),
        "widget": _widget(subject, has_preview),
    }
    if isinstance(manifest, Manifest):
        front["instance_prompt"] = manifest.trigger
    if subject.gated and subject.is_public:
        front |= _gate(title, _sentences(terms_of(workspace, subject)))
    return front


def _bases(workspace: Workspace, subject: Subject) -> dict[str, Any]:
    """What it is made for, and of a merged file what it was made of; the Hub draws a tree of it."""
    base = subject.lock.base if isinstance(subject.lock, RecipeLock) else subject.lock.inputs.base
    found = [base.model] if is_hub_id(base.model) else []
    is_merge = isinstance(subject.lock, RecipeLock) and bool(subject.lock.outputs)
    if is_merge:
        for ref, _ in _members(workspace, subject):
            repo = publication.repo_of(workspace, AssetId.parse(ref.partition("@")[0]))
            found += [repo] if repo else []
    if not found:
        return {}
    relation = "merge" if is_merge else "adapter"
    return {"base_model": found, "base_model_relation": relation}


def _members(workspace: Workspace, subject: Subject) -> Iterator[tuple[str, Manifest]]:
    """Members of a recipe in the state that its lock names."""
    for member in subject.lock.members if isinstance(subject.lock, RecipeLock) else ():
        name, _, version = member.ref.partition("@")
        asset = AssetId.parse(name)
        yield (
            member.ref,
            released_manifest(workspace, asset, version)
            if version
            else workspace.load_manifest(asset),
        )


def _license(workspace: Workspace, subject: Subject) -> dict[str, str]:
    manifest = subject.manifest
    given = manifest.license if isinstance(manifest, Manifest) else None
    names = {given.id} if given else set()
    for _, member in _members(workspace, subject):
        names |= {member.license.id} if member.license else set()
    name = next(iter(names)) if len(names) == 1 else "terms-of-all-members"
    if not names:
        return {}
    if len(names) == 1 and licenses.facts(name):
        return {"license": licenses.canonical(name)}
    link = {"license_link": given.link} if given and given.link else {}
    return {"license": "other", "license_name": _slug(name), **link}


def _slug(name: str) -> str:
    """A licence as the Hub wants unknown ones named: an id such as ``my-license-1.0``."""
    return re.sub(r"[^a-z0-9.]+", "-", name.casefold()).strip("-.") or "other"


def _languages(titles: dict[str, str]) -> list[str]:
    return sorted({code.partition("-")[0] for code in titles})


def _metrics(subject: Subject) -> list[EvalResult] | None:
    """The held-out losses; of what they were measured on nothing is told but that."""
    from huggingface_hub import EvalResult

    known = subject.lock
    if not isinstance(known, TrainedLock) or known.result.validation_loss is None:
        return None
    losses = [("adapter", known.result.validation_loss)]
    if known.result.base_validation_loss is not None:
        losses.append(("base alone", known.result.base_validation_loss))
    return [
        EvalResult(
            task_type=known.task,
            dataset_type="held-out",
            dataset_name="held-out records of its own dataset",
            metric_type="loss",
            metric_name=f"Held-out loss, {who}",
            metric_value=round(value, 6),
        )
        for who, value in losses
    ]


def _widget(subject: Subject, has_preview: bool) -> list[dict[str, Any]]:
    """Prompts to try; replies that were recorded, or the picture of what it does."""
    known, manifest = subject.lock, subject.manifest
    if isinstance(known, TrainedLock) and known.result.replies:
        return [
            {"text": reply.prompt, "output": {"text": reply.adapter}}
            for reply in known.result.replies
        ]
    prompts = manifest.sample.prompts if isinstance(manifest, Manifest) else ()
    found: list[dict[str, Any]] = [{"text": prompt} for prompt in prompts]
    if found and has_preview:
        found[0]["output"] = {"url": "preview.png"}
    return found


def _gate(title: str, terms: list[str]) -> dict[str, Any]:
    listed = "\n".join(f"- {line}" for line in terms)
    return {
        "extra_gated_heading": f"Ask for access to {title}",
        "extra_gated_prompt": f"Whoever gets access agrees to these terms:\n{listed}",
        "extra_gated_fields": {
            "Name": "text",
            "What I will use it for": "text",
            "I agree to these terms": "checkbox",
        },
        "extra_gated_button_content": "Ask for access",
    }


def _sentences(terms: Terms) -> list[str]:
    """What users may do, a line each."""
    lines = [COMMERCIAL[terms.commercial]]
    lines.append("changed versions may be passed on" if terms.derivatives else "no derivatives")
    if not terms.merge:
        lines.append("not to be merged into other weights")
    if terms.onward is not None:
        lines.append("what is made from it must be under " + " or ".join(sorted(terms.onward)))
    lines += [f"credit: {who}" for who in sorted(terms.credits)]
    if terms.expires:
        lines.append(f"until {terms.expires.isoformat()}; after that it may not be used")
    return lines


def _title(subject: Subject) -> str:
    return " · ".join(subject.manifest.title.values()) or str(subject.asset)


def _body(workspace: Workspace, subject: Subject, has_preview: bool) -> Iterator[str]:
    manifest = subject.manifest
    yield from (f"# {_title(subject)}", "")
    if isinstance(manifest, Manifest) and manifest.description:
        yield from (manifest.description.strip(), "")
    if has_preview:
        yield from ("![base and adapter, same prompts and seeds](preview.png)", "")
    yield from ("| | |", "| --- | --- |")
    yield from (f"| {name} | {_cell(value)} |" for name, value in _facts(workspace, subject))
    yield from ("", "## Terms", "")
    yield from (f"- {line}" for line in _sentences(terms_of(workspace, subject)))
    yield from ("", *_lineage(workspace, subject))
    yield from ("## Take it into your own registry", "")
    yield f"    lorareg pull hub:{subject.repo}@{subject.version}"


def _facts(workspace: Workspace, subject: Subject) -> Iterator[tuple[str, str]]:
    manifest, known = subject.manifest, subject.lock
    yield "release", f"`{subject.ref}`"
    if isinstance(manifest, RecipeManifest):
        yield "composition", f"`{manifest.expression}`"
        words = [each.trigger for _, each in _members(workspace, subject) if each.trigger]
        yield "triggers", ", ".join(f"`{word}`" for word in dict.fromkeys(words)) or "none"
    else:
        yield "base", f"`{public_name(manifest.base)}`"
        yield "trigger", f"`{manifest.trigger}`" if manifest.trigger else "none"
        yield "weight", f"{manifest.weight.default:g}"
        yield "owners", ", ".join(manifest.owners) or "not named"
        if manifest.consent:
            yield "likeness", "the person shown has agreed to this use"
    if isinstance(known, TrainedLock):
        result = known.result
        yield "rank, alpha, scale", f"{result.rank}, {result.alpha:g}, {_scale(manifest):g}"
        yield "steps", f"{result.steps}, best at {result.best_step}"
    yield "fingerprint", f"`{known.fingerprint}`"
    for name, output in sorted(known.outputs.items()):
        yield name, f"`{output.tensors or output.sha256}`"


def _scale(manifest: subjects.AnyManifest) -> float:
    return manifest.lora.scale if isinstance(manifest, Manifest) else 1.0


def _lineage(workspace: Workspace, subject: Subject) -> Iterator[str]:
    """What it was made from: base, parent, members, sources of the data."""
    manifest, known = subject.manifest, subject.lock
    lines = []
    if isinstance(manifest, Manifest):
        model = public_name(manifest.base)
        found = base_license.of(manifest.base.model, None)
        lines.append(f"base `{model}`" + (f", {found}" if found else ""))
    if isinstance(known, TrainedLock) and known.inputs.parent:
        lines.append(f"started from `{known.inputs.parent.ref}`, `{known.inputs.parent.tensors}`")
    if isinstance(known, ImportedLock):
        origin = known.inputs.origin
        lines.append(f"imported from `{origin.file}`, `{origin.sha256}`")
    for member in known.members if isinstance(known, RecipeLock) else ():
        repo = publication.repo_of(workspace, AssetId.parse(member.ref.partition("@")[0]))
        shown = f"[{member.ref}]({repos.address(repo)})" if repo else f"`{member.ref}`"
        lines.append(f"{shown} at {member.weight:g}, `{member.tensors}`")
    for source in (manifest.dataset_.sources if isinstance(manifest, Manifest) and
                   manifest.dataset_ else ()):  # fmt: skip
        author = f" by {source.author}" if source.author else ""
        link = f"[{source.title}]({source.url})" if source.url else source.title
        lines.append(f"{link}{author}, {source.license}")
    yield from ("## Made from", "", *(f"- {line}" for line in lines), "")


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "\\|").split())
