"""DVC's settings: where its cache is and what its remotes are, read without starting DVC.

Four files, later ones win: the system's, the user's, ``.dvc/config`` (in git) and
``.dvc/config.local`` (never in git; credentials belong there).

Source: https://dvc.org/doc/user-guide/project-structure/configuration
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lorareg.errors import ExternalToolError, InvalidFileError, LoraregError
from lorareg.registry.files import read_utf8, refuse_elsewhere

MAX_BYTES = 1_000_000
REMOTE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
REMOTE = re.compile(r'remote "(.*)"')
FILE_KEYS = {"dir", "url", "keyfile", "cert_path", "key_path", "credentialpath", "configpath"}

Values = Mapping[tuple[str, str], str]  # (section, key) -> value


@dataclass(frozen=True)
class Config:
    """What holds in one registry, all four files together; file names in it are absolute."""

    folder: Path
    values: Values

    @property
    def objects(self) -> Path:
        """Folder of the cache in which the object with md5 abcdef... is ab/cdef..."""
        cache = self.values.get(("cache", "dir"), str(self.folder / "cache"))
        return Path(cache) / "files" / "md5"

    @property
    def remotes(self) -> dict[str, str]:
        """Remotes by name: a URL, or the absolute path of a folder."""
        return {
            match[1]: value
            for (section, key), value in self.values.items()
            if key == "url" and (match := REMOTE.fullmatch(section))
        }

    @property
    def default_remote(self) -> str | None:
        """The remote of data that names none."""
        return self.values.get(("core", "remote"))

    def require_remote(self, remote: str) -> None:
        """Refuse the name of a remote that is not there.

        Raises:
            ExternalToolError: it names those that are.
        """
        if remote not in self.remotes:
            raise ExternalToolError(
                f"there is no DVC remote {remote!r}",
                why=f"known: {', '.join(sorted(self.remotes)) or 'none'}",
                fix=f"dvc remote add {remote} FOLDER_OR_URL",
            )

    @property
    def is_plain(self) -> bool:
        """Whether DVC keeps its cache as it does unless told otherwise: copies, own, its lock."""
        links = {each.strip() for each in self.values.get(("cache", "type"), "copy").split(",")}
        others = (("cache", "shared"), ("core", "hardlink_lock"))
        return links <= {"reflink", "copy"} and not any(self.values.get(key) for key in others)

    def remote_objects(self, remote: str | None) -> Path | None:
        """Like ``objects``, for a remote that is a folder; None for any other."""
        url = self.remotes.get(remote or self.default_remote or "", "://")
        return None if "://" in url else Path(url) / "files" / "md5"


def read(folder: Path) -> Config:
    """Read the settings of the registry whose .dvc/ is ``folder``."""
    import platformdirs

    system = os.environ.get("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir(
        "dvc", "iterative"
    )
    user = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir(
        "dvc", "iterative"
    )
    values: dict[tuple[str, str], str] = {}
    for file in (Path(system, "config"), Path(user, "config"), *_own_files(folder)):
        values |= _with_absolute_paths(file)
    return Config(folder, values)


def read_own(folder: Path) -> Values:
    """Only what ``.dvc/config`` and ``.dvc/config.local`` say, file names made absolute."""
    values: dict[tuple[str, str], str] = {}
    for file in _own_files(folder):
        values |= _with_absolute_paths(file)
    return values


def load(file: Path) -> dict[tuple[str, str], str]:
    """Read one file as it stands; a missing one is empty.

    Raises:
        InvalidFileError: it cannot be read.
    """
    if not file.is_file():
        return {}
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, default_section="", inline_comment_prefixes=("#",)
    )
    try:
        parser.read_string(read_utf8(file, max_bytes=MAX_BYTES))
    except configparser.Error as error:
        raise InvalidFileError(
            f".dvc/{file.name} cannot be read",
            why=" ".join(str(error).split()),
            fix="mend that line; dvc config --list shows what DVC makes of it",
        ) from error
    return {
        (_unquoted(section).lower(), key): _unquoted(value)
        for section in parser.sections()
        for key, value in parser.items(section)
    }


def as_text(values: Values) -> str:
    """Write settings as DVC does."""
    sections: dict[str, list[str]] = {}
    for (section, key), value in values.items():
        quote = "'" if '"' in value else '"'
        sections.setdefault(section, []).append(f"    {key} = {quote}{value}{quote}\n")
    return "".join(
        (f"['{section}']\n" if '"' in section else f"[{section}]\n") + "".join(lines)
        for section, lines in sections.items()
    )


def absolute(url: str, folder: Path) -> str:
    """A URL as it is, a file name as an absolute path; a relative one starts at ``folder``."""
    if "://" in url:
        return url
    return os.path.normpath(folder / Path(url).expanduser())


def check_remote(name: str, url: str) -> None:
    """Refuse a remote that DVC would not find again, or that gives a password away.

    Raises:
        LoraregError: the name or the address cannot be used.
    """
    if not REMOTE_NAME.fullmatch(name):
        raise LoraregError(
            f"{name!r} cannot be the name of a remote",
            why="DVC reads its settings in lower case",
            fix="use lower-case letters, digits, _, . and -",
        )
    if not url or url.startswith("-") or any(ord(letter) < 32 for letter in url):
        raise LoraregError(f"{url!r} cannot be the address of a remote")
    if "://" in url and urlsplit(url).password is not None:
        raise LoraregError(
            f"the address of remote {name!r} has a password in it",
            why=".dvc/config is committed for everyone to read",
            fix=f"leave it out, then: dvc remote modify --local {name} password PASSWORD",
        )


def _own_files(folder: Path) -> tuple[Path, Path]:
    refuse_elsewhere(folder / "config")  # it is committed; the other is this machine's own
    return folder / "config", folder / "config.local"


def _with_absolute_paths(file: Path) -> dict[tuple[str, str], str]:
    return {
        (section, key): absolute(value, file.parent) if key in FILE_KEYS else value
        for (section, key), value in load(file).items()
    }


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
