"""How long a push of many small adapters takes, beside what a person would do by hand for it.

Every run starts with adapters that nobody has pushed: nothing of them is in DVC's cache, at the
remote or in git. Two baselines run in turns with it, on the same files:

- bare: every file is copied once and its sha256 taken;
- by hand: every file goes where a push has to bring it, with nothing checked or made in between:
  into DVC's cache and into the remote, with its sha256 (the lock's) and its md5 (DVC's), a pointer
  and a line of .gitignore beside it; then git add, commit and push of the same folders.

Both end when the bytes are on the disk, as a push does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.processes import Took, git, run, say, timed
from benchmarks.registry_assets import make
from lorareg.registry import card
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.workspace import Workspace

ADAPTERS = 1_000
ADAPTER_BYTES = 205_000  # of a small one: rank 4 on a small base
RUNS = 3
PROMISE = 2.0
LORAREG = [sys.executable, "-m", "lorareg"]
CONFIG = """\
[core]
    analytics = false
    remote = storage
['remote "storage"']
    url = {remote}
"""
POINTER = "outs:\n- md5: {md5}\n  size: {size}\n  nfiles: 1\n  hash: md5\n  path: weights\n"


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=ADAPTERS)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--policy", action="store_true", help="a registry whose states are signed")
    wanted = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder, "compiled"))
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        measure(Path(folder), wanted.adapters, wanted.runs, has_policy=wanted.policy)


def measure(place: Path, count: int, runs: int, *, has_policy: bool = False) -> None:
    """Push, and both baselines in turns with it."""
    template = place / "template"
    made = never_pushed(template, count, has_policy=has_policy)
    files = sorted(template.glob("manifests/*/*/weights/*"))
    size = sum(file.stat().st_size for file in files) / 1e6
    signed = ", every state signed" if has_policy else ""
    print(f"push of {len(made):,} adapters, {size:,.0f} MB of weights{signed}; {runs} runs")
    bare, hand, ours, again = list[Took](), list[Took](), list[Took](), list[Took]()
    for number in range(runs):
        there = place / f"run{number}"
        bare.append(bare_copy(files, there / "bare"))
        root = _clone(template, there / "hand")
        hand.append(timed(partial(by_hand, root)))
        root = _clone(template, there / "ours")
        time.sleep(3)  # files written just now are not remembered, in nobody's work either
        ours.append(_pushed(root))
        again.append(_pushed(root))
        shutil.rmtree(there)
    say("bare, one copy and sha256", bare)
    say("by hand, two copies, sha256, md5, git", hand)
    say("lorareg push", ours)
    say("lorareg push again, with nothing to do", again)
    for name, base in (("bare", bare), ("by hand", hand)):
        wall = statistics.median(b.wall / a.wall for a, b in zip(base, ours, strict=True))
        cpu = statistics.median(b.cpu / a.cpu for a, b in zip(base, ours, strict=True))
        print(f"  push is {wall:.2f} times {name} ({cpu:.2f} of its CPU): at most {PROMISE:g}")


def never_pushed(root: Path, count: int, *, has_policy: bool = False) -> list[AssetId]:
    """A registry of so many trained adapters that only git's first commit knows nothing of."""
    made = make(root, count, weights_bytes=ADAPTER_BYTES, data=False)
    mixes = [f"manifests/{asset}" for asset in made if _is_mix(asset)]
    for unwanted in (".git", ".dvc/cache", *mixes):
        shutil.rmtree(root / unwanted)
    adapters = [asset for asset in made if not _is_mix(asset)]
    workspace = Workspace(root)
    for asset in adapters:
        folder = workspace.folder(asset)
        folder.pointer.unlink()
        (folder.path / ".gitignore").unlink()
        folder.card.touch()
        card.refresh(workspace, asset)
    shutil.rmtree(root / ".lorareg", ignore_errors=True)
    git(root, "init", "--quiet", "--initial-branch=main")
    for key, value in (("name", "Benchmark"), ("email", "benchmark@example.org")):
        git(root, "config", f"user.{key}", value)
    git(root, "config", "gc.auto", "0")
    git(root, "add", "lorareg.yaml", ".gitignore", ".dvc")
    git(root, "commit", "--quiet", "--message=top")
    if has_policy:
        _add_policy(root)
    return adapters


def bare_copy(files: Sequence[Path], into: Path) -> Took:
    """The least: one copy and one digest of every file."""

    def copy() -> None:
        into.mkdir(parents=True)
        for number, file in enumerate(files):
            with file.open("rb") as stream:
                hashlib.file_digest(stream, "sha256")
            shutil.copyfile(file, into / str(number))
        os.sync()

    return timed(copy)


def by_hand(root: Path) -> None:
    """What a push leaves behind, by the shortest way there."""
    cache, remote = root / ".dvc" / "cache", root.parent / "remote"
    for weights in sorted(root.glob("manifests/*/*/weights")):
        entries = []
        for file in sorted(weights.iterdir()):
            with file.open("rb") as stream:
                hashlib.file_digest(stream, "sha256")
            with file.open("rb") as stream:
                md5 = hashlib.file_digest(stream, _md5).hexdigest()
            for top in (cache, remote):
                shutil.copyfile(file, _place(top, md5))
            entries.append({"md5": md5, "relpath": file.name})
        listing = json.dumps(entries, sort_keys=True).encode()
        md5 = f"{_md5(listing).hexdigest()}.dir"
        for top in (cache, remote):
            _place(top, md5).write_bytes(listing)
        size = sum(file.stat().st_size for file in weights.iterdir())
        weights.with_name("weights.dvc").write_text(POINTER.format(md5=md5, size=size))
        weights.with_name(".gitignore").write_text("/weights\n")
    os.sync()
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=by hand")
    git(root, "push", "--quiet", "origin", "main")


def _clone(template: Path, place: Path) -> Path:
    """A copy of the registry with remotes of its own, for bytes and for git."""
    root, remote, far = place / "registry", place / "remote", place / "far.git"
    remote.mkdir(parents=True)
    subprocess.run(["cp", "-a", str(template), str(root)], check=True)
    git(place, "init", "--quiet", "--bare", "--initial-branch=main", str(far))
    git(root, "remote", "add", "origin", str(far))
    git(root, "push", "--quiet", "origin", "main")
    (root / ".dvc" / "config").write_text(CONFIG.format(remote=remote), encoding="utf-8")
    return root


def _pushed(root: Path) -> Took:
    """Run it, and see that all of it arrived."""
    took = run([*LORAREG, "push"], root)
    there = sum(1 for _ in (root.parent / "remote" / "files" / "md5").glob("??/*"))
    wanted = 2 * sum(1 for _ in root.glob("manifests/*/*/weights"))
    if there != wanted:
        raise SystemExit(f"{there} objects arrived, not {wanted}")
    return took


def _add_policy(root: Path) -> None:
    """The first policy: one maintainer, who owns everything."""
    key = root.parent / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)]
    subprocess.run(command, check=True)
    git(root, "config", "gpg.format", "ssh")
    git(root, "config", "user.signingKey", f"{key}.pub")
    run([*LORAREG, "policy", "init", "--as", "alice"], root)


def _is_mix(asset: AssetId) -> bool:
    return asset.kind == RECIPE


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)


def _place(top: Path, md5: str) -> Path:
    place = top / "files" / "md5" / md5[:2] / md5[2:]
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


if __name__ == "__main__":
    main()
