"""One DVC command line: run apart from our process, repeated while DVC is locked, explained."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from lorareg.errors import ExternalToolError, NotFoundError

QUIET = {"DVC_NO_ANALYTICS": "1", "NO_COLOR": "1", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
LOCKED = r"Unable to acquire lock|is busy, it is being blocked by"
ABSENT = r"files? failed to download|NoSuchKey|missing-files"
NO_ACCESS = (
    r"Permission denied|AccessDenied|Forbidden|Unauthorized|\b40[13]\b(?! files)|Credentials"
)
UNREACHABLE = r"Cannot connect|failed to connect|[Cc]onnection|timed out|Name or service|resolve"
CURES = (
    (LOCKED, "wait for the other DVC process to end, or end it; then run this again"),
    (r"No space left|Disk quota", "make room on the disk, then run this again"),
    (r"no remote specified", "dvc remote add --default store FOLDER_OR_URL"),
    (r"remote '.*' doesn't exist", "name a remote that dvc remote list shows"),
    (r"requires '([\w-]+)' to be installed", "pip install {0}"),
    (r"(git rm -r --cached '.*')", "{0}"),
    (r"unsaved files", "move these files out of the folder, or track them: dvc add"),
    (NO_ACCESS, "ask the remote's owner for access; credentials go into .dvc/config.local"),
    (UNREACHABLE, "check the network and the remote's address: dvc remote list"),
    (ABSENT, "ask the owner of the data to run: lorareg push"),
    (r"not inside of a DVC repository|not tracked by any supported SCM", "lorareg init"),
)


def run(root: Path, *arguments: str, patience: float) -> str:
    """Run ``dvc ARGUMENTS`` at the top of a registry.

    DVC's own waiting (``--wait-for-lock``) has no end, says nothing, and leaves out one of its two
    locks; without it a command gives up after three seconds. So it is repeated.

    Args:
        root: top of the registry.
        arguments: of DVC; never a shell's.
        patience: seconds to wait for other DVC processes.

    Returns:
        What it printed on stdout.

    Raises:
        NotFoundError: bytes that are not where they should be.
        ExternalToolError: any other refusal; ``why`` is DVC's own last line.
    """
    # -P: without it Python would import a registry's own yaml.py or dvc/ from its top folder
    command = [sys.executable, "-P", "-m", "dvc", *arguments]
    give_up = time.monotonic() + patience
    while True:
        done = subprocess.run(
            command,
            cwd=root,
            env={**_own_memory(), **os.environ, **QUIET},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode == 0:
            return done.stdout
        if not re.search(LOCKED, done.stderr) or time.monotonic() > give_up:
            raise explained(arguments[0], done.stderr)
        time.sleep(0.2)


def _own_memory() -> dict[str, str]:
    """Where DVC remembers what remotes hold: a place of this person's.

    DVC's default is a folder that everybody on the machine may write, and a committed
    ``core.site_cache_dir`` would choose another; it reads pickles there.
    """
    from platformdirs import user_cache_dir

    return {"DVC_SITE_CACHE_DIR": str(Path(user_cache_dir("lorareg")) / "dvc")}


def explained(verb: str, output: str) -> ExternalToolError | NotFoundError:
    """Turn what DVC printed into what is wrong, why, and what to do."""
    cures = ((re.search(pattern, output), cure) for pattern, cure in CURES)
    fix = next((cure.format(*match.groups()) for match, cure in cures if match), "")
    kind = NotFoundError if re.search(ABSENT, output) else ExternalToolError
    return kind(
        f"dvc {verb} failed",
        why=_last_words(output),
        fix=fix or f"see what DVC says: dvc {verb} --verbose; and how it is set up: dvc doctor",
    )


def _last_words(output: str) -> str:
    """DVC's last error; where that is a mere count, the first failure that it counts as well."""
    messages = [
        " ".join(message.split())
        for message in re.findall(r"^ERROR: ((?:.+\n?)+?)(?=\n|ERROR:|WARNING:|\Z)", output, re.M)
    ]
    if not messages:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        return lines[-1] if lines else "it printed nothing"
    last = messages[-1].removeprefix("unexpected error - ")
    if re.search(r"files? failed to (down|up)load", last) and len(messages) > 1:
        last = f"{last}: {messages[0]}"
    return re.sub(r"://[^/@\s]+@", "://***@", last)
