"""Which release a subject gets: a pure function of the channels, the same everywhere and forever.

A subject is in a share if sha256(asset|salt|subject), as a number, modulo 10000 is below it. So a
subject's answer never changes while the salt and the share stay, and a share that grows only adds
subjects. Nothing is asked of a network, a clock or chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId
from lorareg.registry.releases.channels import STABLE, WHOLE, Channel, Channels, found_in, percent

MAX_SUBJECT = 1000  # characters; a subject is a name, not a document


@dataclass(frozen=True)
class Choice:
    """What a subject gets.

    Attributes:
        version: the release.
        channel: the one it comes from, which may be another than was asked for.
        why: in a few words.
        bucket: the subject's place, 0 to 9999; None where no share was looked at.
    """

    version: str
    channel: str
    why: str
    bucket: int | None = None


def bucket(asset: AssetId, salt: str, subject: str) -> int:
    """A subject's place in a gray release, 0 to 9999, evenly spread.

    >>> bucket(AssetId("character", "zhangsan"), "s1", "player-123")
    7313
    """
    text = f"{asset}|{salt}|{subject}".encode()
    return int.from_bytes(hashlib.sha256(text).digest(), "big") % WHOLE


def choose(
    asset: AssetId,
    channels: Channels,
    channel: str,
    subject: str | None = None,
    groups: Sequence[str] = (),
) -> Choice:
    """What one who asks for a channel gets.

    A channel other than stable is what it points to. Who asks for stable gets a gray release if
    it allows the subject or one of its groups (of several, the first by name), or if the subject
    is within its share; else stable.

    Args:
        asset: an adapter or a recipe.
        channels: all of its channels.
        channel: the one that is asked for.
        subject: who asks, in any words that stay the same: a player's number, a mail address.
        groups: that the subject is in.

    Raises:
        LoraregError: there is no such channel; a subject that is empty or endless.
    """
    pointer = found_in(channels, channel, asset)
    if channel != STABLE:
        return Choice(pointer.version, channel, f"{channel} was asked for")
    if subject is not None:
        _check(subject)
    names = {subject, *groups} - {None}
    share = None
    for name, gray in channels.gray():
        if allowed := sorted(names.intersection(gray.allow), key=str):
            return Choice(gray.version, name, f"{allowed[0]} is on the allow-list of {name}")
        if gray.share:
            share = (name, gray)
    if share is None:
        return Choice(pointer.version, STABLE, "nothing rolls out")
    if subject is None:
        return Choice(pointer.version, STABLE, "no subject was named")
    return _by_share(asset, pointer, share, subject)


def _by_share(asset: AssetId, stable: Channel, share: tuple[str, Channel], subject: str) -> Choice:
    name, gray = share
    place = bucket(asset, gray.salt or "", subject)
    if place < gray.share:
        why = f"bucket {place} is within the {percent(gray.share)} of {name}"
        return Choice(gray.version, name, why, place)
    why = f"bucket {place} is outside of the {percent(gray.share)} of {name}"
    return Choice(stable.version, STABLE, why, place)


def _check(subject: str) -> None:
    try:
        subject.encode()
        fault = "it is empty" if not subject else ""
    except UnicodeEncodeError:
        fault = "it is not UTF-8"
    if len(subject) > MAX_SUBJECT:
        fault = f"{len(subject)} characters, at most {MAX_SUBJECT}"
    if fault:
        raise LoraregError(
            "this is no subject", why=fault, fix="name who asks: --subject player-123"
        )
