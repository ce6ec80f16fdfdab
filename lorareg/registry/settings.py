"""``lorareg.yaml``, the settings of a registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lorareg.registry import yamlfile
from lorareg.registry.publication import HubSettings
from lorareg.registry.schema import Later, Strict, check

FILE = "lorareg.yaml"


class Settings(Strict):
    """``lorareg.yaml``: what holds for the whole registry.

    Attributes:
        name: of the registry.
        bases: default base model for each task, used by ``lorareg new``.
        remotes: visibility -> name of the DVC remote that holds its bytes.
        trackers: where training runs report, beside their own metrics file; their keys and
            servers are their own settings, never written here.
        hub: where it publishes.
    """

    schema_: Annotated[Literal["lorareg/1"], Field(alias="schema")]
    name: str
    bases: dict[Literal["text-to-image", "text-generation"], str] = {}
    remotes: dict[Literal["private", "team", "public"], str] = {}
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    hub: Annotated[HubSettings | None, Later()] = None


def load(root: Path) -> Settings:
    """Read the settings of the registry at ``root``."""
    return check(Settings, yamlfile.load(root / FILE), FILE)
