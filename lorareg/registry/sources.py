"""The ``dataset`` block of a manifest: which folder, and where its contents came from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lorareg.registry.fields import DatasetPath, Person, Text
from lorareg.registry.schema import Strict


class Source(Strict):
    """Where pictures or texts came from, and the terms they came under."""

    title: Text
    author: Text | None = None
    url: Text | None = None
    license: Text
    changes: Text | None = None


class Waiver(Strict):
    """An owner's word that a dataset with personal data may be trained on as it is."""

    by: Person
    reason: Annotated[Text, Field(pattern=r"\S", description="why it may be trained on")]


class Dataset(Strict):
    """A folder of the registry, tracked by DVC.

    ``captions`` names the file of an image dataset (``metadata.csv``, ``metadata.jsonl``) or is
    "txt" for sidecar files; by default the first of these that exists. ``vocabulary`` names the
    file in the folder that its captions are checked against; by default ``vocabulary.yaml`` if it
    is there. ``skip`` names files of the folder that are left alone: ``lorareg train
    --skip-broken`` fills it. A dataset that ``contains_personal_data`` is trained on only after
    ``lorareg data redact``, or with a ``waiver`` of one of the owners.
    """

    path: DatasetPath
    captions: Text | None = None
    vocabulary: Text | None = None
    skip: tuple[Text, ...] = ()
    contains_personal_data: bool = False
    waiver: Waiver | None = None
    sources: tuple[Source, ...] = ()
