"""No name in any file leads out of the registry, into a terminal, or into another file's syntax."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from lorareg.errors import LoraregError
from lorareg.registry.access import codeowners, policy
from lorareg.registry.dvc import pointer
from lorareg.registry.ids import Ref
from tests.faults.hostile.place import REPEATS, Answer, Counts, Place

NAMES = (
    "../outside/secret.txt", "../../outside", "/etc/passwd", "..", ".", "", "a/../../b", "~/x",
    "C:\\x", "..\\outside", "x\x00y", "x\ny", "-rf", "--output=x", "\x1b[2J", "\x9b2J", "[red]x",
    "[/]", "a b", "a#b", "*", "$(id)", "`id`", "x" * 5000, "\u202egnp", "CON", ".git/config",
    ".dvc/config", "ＡＢ", "zhangſan", "a@b", "@", "v1.0.0^{}", "refs/heads/main", "HEAD",
    "%2e%2e/",
)  # fmt: skip


def set_in(file: Path, path: tuple[str | int, ...], value: object) -> None:
    """Change one value of a JSON file, or one key where the path ends in ``None``."""
    document = json.loads(file.read_text())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(document))


def rename_in(file: Path, path: tuple[str | int, ...], name: str) -> None:
    """Call the first key of a table otherwise."""
    document = json.loads(file.read_text())
    place = document
    for key in path:
        place = place[key]
    place[name] = place.pop(next(iter(place)))
    file.write_text(json.dumps(document))


JSON_VALUES: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "dataset.path": ("manifest.yaml", ("dataset", "path")),
    "dataset.skip": ("manifest.yaml", ("dataset", "skip")),
    "kind": ("manifest.yaml", ("kind",)),
    "name": ("manifest.yaml", ("name",)),
    "base.model": ("manifest.yaml", ("base", "model")),
    "owners": ("manifest.yaml", ("owners",)),
    "parent": ("manifest.yaml", ("parent",)),
    "publish.hub": ("manifest.yaml", ("publish",)),
    "trigger": ("manifest.yaml", ("trigger",)),
    "title": ("manifest.yaml", ("title",)),
    "description": ("manifest.yaml", ("description",)),
    "lock.asset": ("lock.json", ("asset",)),
    "lock dataset": ("lock.json", ("inputs", "dataset", "path")),
    "lock base": ("lock.json", ("inputs", "base", "model")),
    "lock parent": ("lock.json", ("inputs", "parent")),
    "ledger.by": ("releases.json", ("releases", 0, "by")),
    "ledger.commit": ("releases.json", ("releases", 0, "commit")),
    "ledger.version": ("releases.json", ("releases", 0, "version")),
    "ledger.why": ("releases.json", ("releases", 0, "why")),
    "signature.by": ("signature.json", ("by",)),
    "revoked.reason": ("/manifests/style/gone/revoked.json", ("revocations", 0, "reason")),
    "revoked.by": ("/manifests/style/gone/revoked.json", ("revocations", 0, "by")),
    "recipe member": ("/manifests/recipe/duo/lock.json", ("members", 0, "ref")),
    "recipe file": ("/manifests/recipe/duo/lock.json", ("members", 0, "file")),
    "recipe commit": ("/manifests/recipe/duo/lock.json", ("members", 0, "commit")),
}
WRAPPED = {
    "dataset.skip": lambda name: [name],
    "owners": lambda name: [name],
    "publish.hub": lambda name: {"hub": name},
    "title": lambda name: {"en": name},
    "ledger.why": lambda name: [name],
    "lock parent": lambda name: {"ref": name, "tensors": "sha256:" + "0" * 64},
}
READERS = (
    ("show", "style/ink"), ("list",), ("verify",), ("log", "style/ink"), ("search", "ink"),
    ("status",), ("diff", "style/ink@v1.0.0", "style/ink"), ("push", "--dry-run"),
    ("show", "style/ink", "--json"), ("pull",), ("compose", "verify", "recipe/duo"),
    ("release", "style/ink", "--dry-run"), ("policy", "check"), ("show", "style/gone"),
    ("compose", "upgrade", "recipe/duo", "--dry-run"), ("push",), ("list", "--json"),
)  # fmt: skip


def test_no_name_in_a_file_leads_anywhere(place: Place) -> None:
    counts = Counts("names in JSON and YAML", 0)
    for number, (what, (file_name, path)) in enumerate(JSON_VALUES.items()):
        file = place.path(file_name)
        kept = file.read_text()
        for turn in range(len(NAMES) if REPEATS else 1):
            name = NAMES[(3 * number + turn * 11) % len(NAMES)]
            set_in(file, path, WRAPPED.get(what, lambda name: name)(name))
            counts.cases += 1
            command = READERS[(number * 5 + turn * 7) % len(READERS)]
            counts.attempt(place, f"{what} {name!r}", command)
            place.git("checkout", "--quiet", "-f", "main")
            file.write_text(kept)
    counts.report()


TABLES: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "outputs": ("lock.json", ("outputs",)),
    "index files": ("dataset.json", ("files",)),
    "signed files": ("signature.json", ("files",)),
}


def test_no_key_of_a_lock_or_an_index_is_taken_for_a_path_elsewhere(place: Place) -> None:
    counts = Counts("keys", 0)
    for number, (what, (file_name, path)) in enumerate(TABLES.items()):
        file = place.path(file_name)
        kept = file.read_text()
        for turn, name in enumerate(NAMES if REPEATS else NAMES[:6]):
            rename_in(file, path, name)
            counts.cases += 1
            counts.attempt(place, f"{what} {name!r}", READERS[(number + turn) % len(READERS)])
            place.git("checkout", "--quiet", "-f", "main")
            file.write_text(kept)
    counts.report()


@pytest.mark.parametrize("name", [n for n in NAMES if n != "HEAD"])
def test_a_listing_of_dvc_names_files_below_its_folder_only(name: str) -> None:
    listing = json.dumps([{"relpath": name, "md5": "0" * 32}]).encode()

    try:
        found = list(pointer.parse_listing(listing, "data/"))
    except LoraregError:
        return
    assert not set(found) & {"..", ".", ""}
    assert (Path("/top/data") / found[0]).resolve().is_relative_to("/top/data")
    assert not any(ord(letter) < 32 for letter in found[0])


@pytest.mark.parametrize("listing", [
    b"", b"null", b"{}", b"[1]", b"[null]", b'[{"relpath": 1, "md5": "x"}]', b"[" * 100_000,
    b'[{"relpath":"a","md5":"%s"},{"relpath":"A","md5":"%s"}]' % (b"0" * 32, b"1" * 32),
    b'[{"relpath":"a","md5":"../../../../etc/passwd"}]', b"\xff\xfe", b'[{"relpath":["a"]}]',
])  # fmt: skip
def test_a_listing_that_is_none_is_refused(listing: bytes) -> None:
    with pytest.raises(LoraregError):
        pointer.parse_listing(listing, "data/")


def test_a_listing_with_dots_in_the_cache_brings_no_file_outside(place: Place) -> None:
    """The attacker may push any listing under its own md5, and a pointer to it."""
    before = place.surroundings()
    bytes_ = b"an attack\n"
    md5 = _cached(place, bytes_)
    listing = pointer.listing({"../../../outside/planted.txt": md5, "../../planted.txt": md5})
    folder = _cached(place, listing, pointer.listing_md5(listing))
    place.path("weights.dvc").write_text(
        f"outs:\n- md5: {folder}\n  size: {2 * len(bytes_)}\n  nfiles: 2\n  hash: md5\n"
        "  path: weights\n"
    )

    answer = place.run("pull", "style/ink", "--no-git")

    assert (answer.code, answer.problems()) == (2, [])
    assert "planted.txt" in answer.text
    assert place.surroundings() == before
    assert not list(place.root.rglob("planted.txt"))


def test_a_folder_of_an_asset_that_is_a_link_is_not_followed(place: Place) -> None:
    counts = Counts("linked folders", 0)
    for name in ("manifests/style/ink", "manifests/style/linked", "manifests/linked"):
        path = place.root / name
        if path.exists():
            path.rename(place.root / "kept")
        path.symlink_to(place.outside)
        (place.outside / "manifest.yaml").write_text("kind: style\n")
        for command in READERS[:: 1 if REPEATS else 3]:
            counts.cases += 1
            counts.attempt(place, f"{name} is a link", command)
        path.unlink()
        if (place.root / "kept").exists():
            (place.root / "kept").rename(path)
    counts.report()


def test_tags_with_odd_names_are_no_releases(place: Place) -> None:
    odd = [
        "style/ink@v1.0.0-rc1", "style/ink@v01.0.0", "style/ink@latest", "style/ink@v9.9.9@x",
        "style/INK@v1.0.0", "style/ink@v1.0.0;id", "style/ink@$(id)",
        "style/ink@v99999999999999999999.0.0", "style/張三@v1.0.0", "-d", "style/ink@v5.0.0\x7f",
        "style/ink@\u202ev5.0.0", "style/ink@v" + "9" * 120 + ".0.0",
    ]  # fmt: skip
    commit = place.git("rev-parse", "HEAD")
    for name in odd:
        file = place.root / ".git/refs/tags" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{commit}\n")
    counts = Counts("odd tags", 0, cases=len(odd))

    answers = [
        counts.attempt(place, "odd tags", command)
        for command in (*READERS, ("resolve", "style/ink@canary"), ("show", "style/ink@^1"))
    ]

    counts.report()
    assert answers[-1].code == 0
    assert '"v5.0.0' not in answers[8].out


@pytest.mark.parametrize("text", NAMES)
def test_a_reference_is_read_as_it_is_or_refused(text: str) -> None:
    for wanted in (text, f"style/{text}", f"style/ink@{text}", f"{text}/ink"):
        try:
            ref = Ref.parse(wanted)
        except LoraregError:
            continue
        assert str(ref) == wanted
        assert re.fullmatch(r"[a-z0-9@/_.^~-]+", wanted)


def test_file_names_of_attestations_are_shown_and_trusted_for_nothing(place: Place) -> None:
    folder = place.path("attestations")
    folder.mkdir()
    for name in ("[red]x[", "[]", "\x1b[2J", "a\nb", "-rf", "\u202ex", "..", "carol"):
        (folder / f"{name}.json").write_text("{}")
    (folder / "linked.json").symlink_to(place.outside / "secret.json")
    (folder / "alice.json").mkdir()
    counts = Counts("attestations", 0, cases=10)

    answers = [counts.attempt(place, "attestations", command) for command in READERS]

    counts.report()
    assert "carol: NOT VALID" in answers[0].out


def test_people_cannot_write_lines_into_codeowners(place: Place) -> None:
    rules = (place.root / policy.FILE).read_text()
    for hostile in ("a b", "a\\n* @mallory", "a#b", "@a", "a @mallory", "a\\r* @m", ""):
        for key in ("github", "hub", "mail"):
            changed = rules.replace("github: alice", f'{key}: "{hostile}"', 1)
            (place.root / policy.FILE).write_text(changed)
            try:
                found = policy.load(place.workspace)
            except LoraregError:
                continue
            assert found is not None
            text = codeowners.text(place.workspace, found)
            assert "mallory" not in text, hostile
            assert all(re.fullmatch(r"(#.*|\S+( @[\w./-]+)+|)", x) for x in text.splitlines())


def test_a_title_cannot_speak_to_the_terminal(place: Place) -> None:
    acting = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[red]x[/red][/]"
    document = json.loads(place.path("manifest.yaml").read_text())
    document |= {
        "title": {"en": acting}, "description": acting, "trigger": "zz[red]x[/]",
        "license": {"id": acting},
    }  # fmt: skip
    place.path("manifest.yaml").write_text(json.dumps(document))
    place.git("commit", "--quiet", "-am", acting)
    counts = Counts("terminal", 0, cases=1)

    answers: list[Answer] = []
    for command in (*READERS, ("policy", "sign", "style/ink"), ("access", "list")):
        answers.append(counts.attempt(place, "a title", command))

    counts.report()
    assert "\\x1b]0;owned" in answers[0].out
    assert "[red]x[/red]" in answers[0].out


def test_what_is_typed_cannot_speak_to_the_terminal_or_to_git(place: Place) -> None:
    counts = Counts("typed", 0)
    for turn, name in enumerate(NAMES):
        if "\x00" in name:
            continue  # no system passes it on
        for command in (
            ("show", f"style/{name}"), ("search", "--", name), ("resolve", f"style/ink@{name}"),
            ("access", "grant", "style/ink", "bob", "--purpose", name),
            ("promote", "style/ink@v1.0.0", "--channel", name),
            ("resolve", "style/ink@stable", "--subject", name), ("pull", "--", f"hub:{name}"),
        )[turn % 5 :: 1 if REPEATS else 5]:  # fmt: skip
            counts.cases += 1
            answer = place.run(*command)
            counts.commands[answer.code] += 1
            counts.failures += [p for p in answer.problems() if "Usage" not in p]
    counts.report()


def _cached(place: Place, data: bytes, md5: str | None = None) -> str:
    name = md5 or hashlib.md5(data, usedforsecurity=False).hexdigest()
    for folder in (".dvc/cache/files/md5", ".dvcstore/files/md5"):
        file = place.root / folder / name[:2] / name[2:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return name
