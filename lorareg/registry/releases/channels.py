"""``channels.yaml``: which release each channel of an asset points to, and who gets a gray one.

``stable`` is what everybody gets. Another channel is a pointer of its own; with a share or an
allow-list it is a gray release too: some of those who ask for stable get it instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.fields import Slug
from lorareg.registry.ids import VERSION, AssetId
from lorareg.registry.schema import Strict, check

STABLE = "stable"
WHOLE = 10_000
"""Basis points of a share of 100 %: the finest share is 0.01 %."""
MAX_CHANNELS = 32
SHARE = re.compile(r"(0|[1-9][0-9]{0,2})(?:\.([0-9]{1,2}))?%")
FIX = "write it as 5%, 0.5% or 0.01%"


def share_of(text: object) -> int:
    """Basis points of a share as people write it.

    Raises:
        ValueError: it is none.

    >>> share_of("5%"), share_of("0.5%"), share_of("100%")
    (500, 50, 10000)
    """
    found = SHARE.fullmatch(text) if isinstance(text, str) else None
    points = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")) if found else WHOLE + 1
    if points > WHOLE:
        raise ValueError(f"is no share of 0% to 100%; {FIX}")
    return points


def percent(points: int) -> str:
    """A share as people write it.

    >>> percent(500), percent(50), percent(1)
    ('5%', '0.5%', '0.01%')
    """
    return f"{points / 100:.2f}".rstrip("0").rstrip(".") + "%"


def _rising(steps: tuple[int, ...]) -> tuple[int, ...]:
    if list(steps) != sorted(set(steps)) or steps[0] == 0 or steps[-1] != WHOLE:
        raise ValueError("steps rise from above 0% to 100%: [5%, 25%, 100%]")
    return steps


Points = Annotated[int, BeforeValidator(share_of)]
Version = Annotated[
    str, Field(pattern=rf"^{VERSION.pattern}$", max_length=64, description="a release: v1.4.0")
]
Metric = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$",
        max_length=200,
        description="the name of a metric: face_sim",
    ),
]
Member = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f\x7f]+$",
        max_length=200,
        description="a subject, or a group that it is in",
    ),
]
Salt = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64, description="letters and digits: s1"),
]
STEPS = (500, 2500, WHOLE)


class Guard(Strict):
    """A threshold that a metric must keep while a release rolls out; the bounds are allowed."""

    metric: Metric
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Guard:
        if (self.min is None) == (self.max is None):
            raise ValueError("a guard has one of min and max")
        return self

    def __str__(self) -> str:
        bound = f">={self.min:g}" if self.min is not None else f"<={self.max:g}"
        return self.metric + bound


class Channel(Strict):
    """One pointer.

    Attributes:
        version: the release it points to.
        share: of stable's subjects that get it instead, in basis points.
        allow: subjects and groups that get it whatever the share.
        salt: decides which subjects are within the share; fixed while a version rolls out.
        guards: what must hold before the share grows.
        steps: shares that a rollout takes one after another, in basis points.
    """

    version: Version
    share: Points = 0
    allow: Annotated[tuple[Member, ...], Field(max_length=1000)] = ()
    salt: Salt | None = None
    guards: Annotated[tuple[Guard, ...], Field(max_length=100)] = ()
    steps: Annotated[
        tuple[Points, ...], Field(min_length=1, max_length=100), AfterValidator(_rising)
    ] = STEPS

    @model_validator(mode="after")
    def _has_salt(self) -> Channel:
        if self.share and not self.salt:
            raise ValueError("a share needs a salt, which decides who is in it; write salt: s1")
        return self

    @property
    def is_gray(self) -> bool:
        """Whether some of those who ask for stable get it."""
        return bool(self.share or self.allow)

    def document(self) -> str | dict[str, Any]:
        """As the file has it: the version alone, or a block."""
        found: dict[str, Any] = {"version": self.version}
        if self.share:
            found["share"] = percent(self.share)
        if self.allow:
            found["allow"] = list(self.allow)
        if self.salt:
            found["salt"] = self.salt
        if self.guards:
            found["guards"] = [guard.model_dump(exclude_none=True) for guard in self.guards]
        if self.steps != STEPS:
            found["steps"] = [percent(step) for step in self.steps]
        return found if len(found) > 1 else self.version


class _File(Strict):
    """The file, with the channels gathered under one key."""

    schema_: Annotated[Literal["lorareg/1"], Field(alias="schema")]
    channels: Annotated[
        dict[Slug, Channel],
        Field(max_length=MAX_CHANNELS),
    ]


@dataclass(frozen=True)
class Channels:
    """All channels of an asset, by name, sorted: the order in the file means nothing."""

    table: Mapping[str, Channel] = field(default_factory=dict)

    def gray(self) -> Iterator[tuple[str, Channel]]:
        """The gray releases over stable, by name."""
        return ((name, each) for name, each in self.table.items() if each.is_gray)

    def changed(self, name: str, channel: Channel | None) -> Channels:
        """The same with one channel set, or removed."""
        table = {key: each for key, each in self.table.items() if key != name}
        if channel is not None:
            table[name] = channel
        return Channels(dict(sorted(table.items())))

    def problems(self) -> list[str]:
        """What does not fit together."""
        found = []
        stable = self.table.get(STABLE)
        if stable and (stable.is_gray or stable.salt or stable.guards or stable.steps != STEPS):
            found.append("stable: is what everybody else gets; it has a version and nothing more")
        gray = [name for name, _ in self.gray() if name != STABLE]
        if gray and stable is None:
            found.append(f"{gray[0]}: takes subjects from stable, and there is no stable")
        rolling = [name for name in gray if self.table[name].share]
        if len(rolling) > 1:
            found.append(
                f"{' and '.join(rolling)}: two shares of the same subjects would overlap; one "
                "release rolls out at a time, and the others have an allow-list"
            )
        return found


def load(file: Path, asset: AssetId) -> Channels:
    """The channels of an asset; none where there is no file.

    Raises:
        InvalidFileError: it names every problem.
    """
    return check_document(yamlfile.load(file), asset) if file.is_file() else Channels()


def parse(text: str, file: Path, asset: AssetId) -> Channels:
    """The same from text; errors name ``file``. Raises as ``load``."""
    return check_document(yamlfile.parse(text, file), asset)


def check_document(document: Mapping[str, Any], asset: AssetId) -> Channels:
    """Check the content of a channels.yaml; raises as ``load``."""
    name = f"manifests/{asset}/channels.yaml"
    rest = {
        key: {"version": value} if isinstance(value, str) else value
        for key, value in document.items()
        if key != "schema"
    }
    head = {"schema": document["schema"]} if "schema" in document else {}
    fix = f"edit {name}; nothing was changed"
    try:
        found = check(_File, {**head, "channels": rest}, name, fix=fix)
    except InvalidFileError as error:
        why = error.why.replace("- channels.", "- ")
        raise InvalidFileError(error.what, why=why, fix=fix) from error
    channels = Channels(dict(sorted(found.channels.items())))
    if problems := channels.problems():
        raise InvalidFileError(f"{name} contradicts itself", why="; ".join(problems), fix=fix)
    return channels


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Names of the channels that differ between two states of a file; never raises.

    A gray release of 100 % is what everybody gets who asks for stable: to begin one moves stable
    too. To end one gives back to stable what it points to, which moves nothing of stable. A gray
    release that becomes stable and goes is one move, of stable.

    Args:
        before: content of channels.yaml, valid or not; empty where there was none.
        after: the same of the other state.
    """
    names = {name for name in before.keys() | after.keys() if name != "schema"}
    found = {name for name in names if before.get(name) != after.get(name)}
    if STABLE in found:
        now = _version(after.get(STABLE))
        found -= {n for n in found - after.keys() if now and _version(before[n]) == now}
    served = _served(after)
    if served is not None and served not in (_served(before), _version(before.get(STABLE))):
        found.add(STABLE)
    return found


def _served(document: Mapping[str, Any]) -> str | None:
    """The version of a channel that takes all of stable's subjects, if one does."""
    for name, channel in sorted(document.items()):
        if name != STABLE and isinstance(channel, Mapping):
            try:
                points = share_of(channel.get("share"))
            except ValueError:
                continue
            if points == WHOLE:
                return _version(channel)
    return None


def _version(channel: Any) -> str | None:
    version = channel.get("version") if isinstance(channel, Mapping) else channel
    return version if isinstance(version, str) else None


def found_in(channels: Channels, name: str, asset: AssetId) -> Channel:
    """A channel by name.

    Raises:
        LoraregError: the asset has none of that name.
    """
    if name in channels.table:
        return channels.table[name]
    known = ", ".join(f"{key} {each.version}" for key, each in channels.table.items())
    raise LoraregError(
        f"{asset} has no channel {name}",
        why=f"its channels: {known or 'none'}",
        fix=f"lorareg promote {asset}@v1.0.0 --channel {name}",
    )
