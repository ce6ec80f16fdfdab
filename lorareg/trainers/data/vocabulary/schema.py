"""``vocabulary.yaml``: the words a team agreed to caption a dataset with.

Errors name every problem at once: a group with an unknown key, an alias of a term that is nowhere,
a word that is both a term and banned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lorareg.errors import InvalidFileError, NotFoundError, listed
from lorareg.registry import yamlfile
from lorareg.registry.schema import Strict, check
from lorareg.trainers.data.vocabulary.consistency import PLACEHOLDER, problems
from lorareg.trainers.data.vocabulary.matching import Match, Matcher, Phrase, begins_with, key_of

FILE = "vocabulary.yaml"

Words = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f\x7f]*\w[^\x00-\x1f\x7f]*$",
        max_length=200,
        description="a word or phrase on one line, with a letter or digit",
    ),
]
GroupName = Annotated[Words, Field(max_length=64)]


class Group(Strict):
    """Terms for one aspect of a picture: materials, light, devices.

    Attributes:
        terms: the words to use, each exactly as captions should have it.
        at_least: how many of them every caption must have.
        exclusive: whether a caption may have one of them at most: day or night.
    """

    terms: Annotated[tuple[Words, ...], Field(min_length=1, max_length=2000)]
    at_least: Annotated[int, Field(ge=0, le=20)] = 0
    exclusive: bool = False


class Vocabulary(Strict):
    """What captions of a dataset must, may and must not say.

    Attributes:
        opening: phrases of which every caption begins with one; ``{trigger}`` is the trigger word.
        groups: terms by aspect.
        aliases: another word -> the term it stands for.
        banned: words no caption may have.
        at_least_one_of: lists of terms and names of groups; a caption has one of each list.
    """

    schema_: Annotated[Literal["lorareg/vocabulary/1"], Field(alias="schema")]
    opening: tuple[Words, ...] = ()
    groups: Annotated[dict[GroupName, Group], Field(max_length=100)] = {}
    aliases: Annotated[dict[Words, Words], Field(max_length=10_000)] = {}
    banned: Annotated[tuple[Words, ...], Field(max_length=10_000)] = ()
    at_least_one_of: Annotated[
        tuple[Annotated[tuple[Words, ...], Field(min_length=1)], ...], Field(max_length=100)
    ] = ()

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a ``vocabulary.yaml``.

        Raises:
            NotFoundError: there is no such file.
            InvalidFileError: it is no YAML, or says what cannot be; every problem is named.
        """
        name = f"{path.parent.name}/{path.name}"
        found = check(cls, yamlfile.load(path), name, fix=f"edit {path}")
        if wrong := problems(found):
            raise InvalidFileError(
                f"{name} has {len(wrong)} problem{'s' if len(wrong) > 1 else ''}",
                why="\n" + listed(wrong, limit=100),
                fix=f"edit {path}",
            )
        return found

    @classmethod
    def of(cls, folder: Path, named: str | None) -> Vocabulary | None:
        """The vocabulary of a dataset: the file its manifest names, else ``vocabulary.yaml``.

        Raises:
            NotFoundError: the named file is not in the folder.
            InvalidFileError: as ``load``.
        """
        path = folder / (named or FILE)
        if named is None and not path.is_file():
            return None
        if path.name != (named or FILE) or not path.is_file():
            raise NotFoundError(
                f"dataset {folder.name}/ has no {named}",
                why="dataset.vocabulary names a file in the dataset folder",
                fix=f"write {FILE} there, or remove dataset.vocabulary from the manifest",
            )
        return cls.load(path)

    def terms(self) -> tuple[str, ...]:
        """Every term, group by group, in the order of the file."""
        return tuple(term for group in self.groups.values() for term in group.terms)

    def group_of(self, term: str) -> str:
        """Name of the group of a term."""
        return self._group_of[term]

    def find(self, caption: str) -> list[Match]:
        """Terms, aliases and banned words of a caption, in the order they stand."""
        return self._matcher.find(caption)

    def said(self, caption: str) -> tuple[str, ...]:
        """The terms a caption means, each once, whether by their own words or by an alias."""
        meant = (m.phrase.meaning for m in self.find(caption) if m.phrase.kind != "banned")
        return tuple(dict.fromkeys(meant))

    def missing_groups(self, caption: str) -> tuple[str, ...]:
        """Groups of which a caption has fewer terms than it must."""
        return self.lacking(self.said(caption))

    def lacking(self, said: Iterable[str]) -> tuple[str, ...]:
        """Groups of which these terms are too few."""
        found = [self._group_of[term] for term in said]
        return tuple(n for n, group in self.groups.items() if found.count(n) < group.at_least)

    def completions(self, prefix: str, limit: int = 8) -> tuple[str, ...]:
        """Terms that a person who typed ``prefix`` may mean.

        Terms that begin with it come first, then those of which another word does; a beginning of
        an alias offers its term.
        """
        typed = "".join(key_of(prefix))
        if not typed:
            return ()
        first, later = [], []
        for term, keys in self._keys.items():
            if any(_starts(key)[0].startswith(typed) for key in keys):
                first.append(term)
            elif any(start.startswith(typed) for key in keys for start in _starts(key)):
                later.append(term)
        return (*first, *later)[:limit]

    def openings(self, trigger: str | None) -> tuple[str, ...]:
        """Openings with the trigger word filled in; without one, only those that need none."""
        return tuple(
            opening.replace(PLACEHOLDER, trigger or "")
            for opening in self.opening
            if trigger or PLACEHOLDER not in opening
        )

    def opens(self, caption: str, trigger: str | None) -> bool:
        """Whether a caption begins as it must."""
        wanted = self.openings(trigger)
        return not self.opening or any(begins_with(caption, opening) for opening in wanted)

    @cached_property
    def _matcher(self) -> Matcher:
        return Matcher(
            [
                *(Phrase("term", term, term) for term in self.terms()),
                *(Phrase("alias", alias, term) for alias, term in self.aliases.items()),
                *(Phrase("banned", phrase, phrase) for phrase in self.banned),
            ]
        )

    @cached_property
    def _group_of(self) -> Mapping[str, str]:
        return {term: name for name, group in self.groups.items() for term in group.terms}

    @cached_property
    def _keys(self) -> Mapping[str, list[list[str]]]:
        """Words of each term and of its aliases, as they are compared."""
        keys = {term: [list(key_of(term))] for term in self.terms()}
        for alias, term in self.aliases.items():
            keys[term].append(list(key_of(alias)))
        return keys


def _starts(key: list[str]) -> list[str]:
    """A phrase from each of its words on."""
    return ["".join(key[index:]) for index in range(0, len(key), 2)]
