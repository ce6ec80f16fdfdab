"""The small values that manifests are made of, each with its bounds and, for errors, its words."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from lorareg.registry.ids import MAX_SLUG, SLUG, VERSION
from lorareg.registry.paths import dataset_path

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


def no_pickle(model: str) -> str:
    """Return the name of a model file that cannot run code when it is loaded.

    Raises:
        ValueError: it can.
    """
    if model.lower().endswith(PICKLES):
        raise ValueError(
            f"{PurePosixPath(model).suffix} files can run code when they are loaded; "
            "convert it to .safetensors first"
        )
    return model


Slug = Annotated[
    str,
    Field(
        pattern=rf"^{SLUG.pattern}$",
        max_length=MAX_SLUG,
        description="lower-case ASCII letters, digits, - and _; the title may say 张三",
    ),
]
Revision = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{40}$",
        description="a commit of 40 hex digits; a branch moves, so it cannot be locked",
    ),
]
Person = Annotated[
    str,
    Field(
        pattern=r"^(group:)?[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=64,
        description="a name such as alice, or group:characters",
    ),
]
ReleaseRef = Annotated[
    str,
    Field(
        pattern=rf"^{SLUG.pattern}/{SLUG.pattern}(@{VERSION.pattern})?$",
        max_length=200,
        description="kind/name, or kind/name@v1.0.0; a channel moves, so it cannot be locked",
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Titles = dict[Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$")], Text]
"""Language (zh, pt-BR) -> title."""
ModelName = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f\x7f]+$",
        max_length=2000,
        description="builtin:NAME, a Hub id, a folder, a .safetensors or a .gguf file",
    ),
    AfterValidator(no_pickle),
]
DatasetPath = Annotated[str, Field(max_length=1000), AfterValidator(dataset_path)]
Share = Annotated[float, Field(ge=0, le=0.5)]
Strength = Annotated[float, Field(ge=-10, le=10)]


def is_hub_id(model: str) -> bool:
    """Whether ``base.model`` has the form of a Hub id, ``org/name``."""
    word = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    return bool(re.fullmatch(f"{word}/{word}", model)) and not re.search(r"\.\.|--", model)
