"""Names: ``kind/name`` is an asset, ``kind/name@v1.2.0`` or ``kind/name@stable`` a state of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lorareg.errors import LoraregError

SLUG = re.compile(r"[a-z0-9][a-z0-9_-]*")
VERSION = re.compile(r"v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")
RANGE = re.compile(r"[\^~](0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){0,2}")
RECIPE = "recipe"  # the kind of compositions
MAX_SLUG = 64  # git tags, Hub repository names and vLLM model names all take this


def check_slug(text: str, what: str) -> str:
    """Return ``text`` if it is a slug.

    Raises:
        LoraregError: it is not; the message names ``what``.
    """
    if len(text) <= MAX_SLUG and SLUG.fullmatch(text):
        return text
    raise LoraregError(
        f"{what} {text!r} is not a slug",
        why=f"expected {SLUG.pattern}, at most {MAX_SLUG} characters: it becomes a folder, "
        "a git tag and a Hub repository",
        fix="use lower-case ASCII letters, digits, - and _; put 张三 into the manifest's title",
    )


@dataclass(frozen=True, order=True)
class AssetId:
    """The name of an adapter or recipe.

    >>> str(AssetId.parse("character/zhangsan"))
    'character/zhangsan'
    """

    kind: str
    name: str

    @classmethod
    def parse(cls, text: str) -> AssetId:
        """Read ``kind/name``."""
        kind, slash, name = text.partition("/")
        if not slash:
            raise LoraregError(
                f"{text!r} is not kind/name", fix="write it as kind/name: character/zhangsan"
            )
        return cls(check_slug(kind, "kind"), check_slug(name, "name"))

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Ref:
    """What people type for an asset: ``[kind/]name[@version|@range|@channel]``.

    >>> Ref.parse("zhangsan@v1.2.0")
    Ref(kind=None, name='zhangsan', at='v1.2.0')
    >>> str(Ref.parse("character/zhangsan@stable"))
    'character/zhangsan@stable'
    """

    kind: str | None
    name: str
    at: str | None = None

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Read a reference; the law is ``str(Ref.parse(s)) == s``."""
        path, mark, at = text.partition("@")
        forms = (VERSION, RANGE, SLUG)
        if mark and (len(at) > MAX_SLUG or not any(form.fullmatch(at) for form in forms)):
            raise LoraregError(
                f"{text!r}: {at!r} is no version, range or channel",
                fix="write a version as v1.2.0, a range of them as ^1.2, a channel as stable",
            )
        kind, slash, name = path.partition("/")
        if not slash:
            return cls(None, check_slug(kind, "name"), at if mark else None)
        return cls(check_slug(kind, "kind"), check_slug(name, "name"), at if mark else None)

    @property
    def version(self) -> str | None:
        """The pinned version, ``v1.2.0``, if the reference names one."""
        return self.at if self.at and VERSION.fullmatch(self.at) else None

    @property
    def range(self) -> str | None:
        """The range of versions, ``^1.2``, if the reference names one."""
        return self.at if self.at and RANGE.fullmatch(self.at) else None

    @property
    def channel(self) -> str | None:
        """The channel, ``stable``, if the reference names one."""
        return self.at if self.at and not (self.version or self.range) else None

    def __str__(self) -> str:
        path = self.name if self.kind is None else f"{self.kind}/{self.name}"
        return path if self.at is None else f"{path}@{self.at}"
