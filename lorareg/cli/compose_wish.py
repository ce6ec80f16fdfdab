"""What the options of ``lorareg compose EXPR`` ask for, as a recipe's manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorareg.errors import LoraregError

if TYPE_CHECKING:
    from lorareg.registry.expression import Expression
    from lorareg.registry.recipe import RecipeManifest
    from lorareg.registry.workspace import Workspace

FITTING = {"protect": ("np",), "mu": ("np",), "keep": ("ties", "dare")}


def told(**values: Any) -> dict[str, Any]:
    """What was said; the rest has the defaults of the manifest. Zero is said, nothing is not."""
    return {key: value for key, value in values.items() if value not in (None, "", {})}


def wanted(
    workspace: Workspace, typed: Expression, name: str | None, how: dict[str, Any]
) -> RecipeManifest:
    """The manifest of what is to be composed.

    A recipe named alone is taken as its manifest has it, each block of which an option replaces;
    without a new name it is itself.

    Raises:
        LoraregError: options that contradict each other; values out of bounds.
    """
    from lorareg.registry.recipe import COMPOSED, RecipeManifest
    from lorareg.weights import members

    _refuse_idle(how)
    method = how.get("method", {})
    if "protect" in method:
        asset = workspace.find_asset(method["protect"], any_version=True)
        how = {**how, "method": {**method, "protect": str(asset)}}
    own = members.recipe_alone(workspace, typed)
    if own is None:
        assets = [workspace.find_asset(part.ref, any_version=True) for part in typed.parts]
        chosen = name or "-with-".join(asset.name for asset in assets)[:64]
        return RecipeManifest.of(chosen, members.parts_of(workspace, typed), **how)
    document = own.model_dump(mode="json", exclude_defaults=True)
    kept = {key: document[key] for key in COMPOSED[1:] if key in document}
    return RecipeManifest.of(name or own.name, own.parts, **{**kept, **how})


def refuse_output(output: str, manifest: RecipeManifest, how: dict[str, Any]) -> None:
    """Refuse a kind of file that the recipe is not."""
    compression, method = manifest.compression, manifest.method.name
    if output == "compressed" and compression is None:
        raise LoraregError(
            "a compressed file needs one of --rank, --energy and --max-size",
            fix="lorareg compose EXPR --output compressed --rank 32",
        )
    if (output in ("exact", "merged") and compression) or (
        output == "recipe" and "compression" in how
    ):
        raise LoraregError(
            f"--output {output} does not compress",
            fix="lorareg compose EXPR --output compressed --rank 32",
        )
    if output == "exact" and method != "sum":
        raise LoraregError(
            f"--method {method} is not exact",
            why="it changes the parts before it adds them up",
            fix=f"lorareg compose EXPR --method {method} --output merged",
        )


def _refuse_idle(how: dict[str, Any]) -> None:
    """Refuse options that would do nothing."""
    method, schedule = how.get("method", {}), how.get("schedule", {})
    name = method.get("name", "sum")
    idle = [
        (f"--{key}", f"--method {' or '.join(methods)}")
        for key, methods in FITTING.items()
        if key in method and name not in methods
    ]
    if "every" in schedule and schedule.get("mode") != "switch":
        idle.append(("--every", "--mode switch"))
    if "truncate" in how.get("compression", {}) and len(how["compression"]) == 1:
        idle.append(("--truncate", "--rank, --energy or --max-size"))
    if idle:
        option, needs = idle[0]
        raise LoraregError(
            f"{option} does nothing here", why=f"it is for {needs}", fix=f"add {needs}"
        )
    if name != "sum" and schedule.get("mode", "sum") != "sum":
        raise LoraregError(
            f"--method {name} and --mode {schedule['mode']} exclude each other",
            why="the method makes one delta of all parts, the mode keeps them apart",
            fix="leave one of them out",
        )
