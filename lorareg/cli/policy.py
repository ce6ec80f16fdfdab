"""``lorareg policy``: who may do what, checked, changed and signed."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorareg.cli.options import RefsArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note, table
from lorareg.cli.show import findings as show_findings
from lorareg.errors import LoraregError
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry.access.people import Entry
    from lorareg.registry.access.policy import Policy

policy = typer.Typer(
    name="policy",
    help="Who may do what: people, keys, owners, signatures.",
    no_args_is_help=True,
)

KeyOption = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="Public key, such as ~/.ssh/id_ed25519.pub."),
]
GithubOption = Annotated[str | None, typer.Option(help="Name on the git host, for CODEOWNERS.")]
HubOption = Annotated[str | None, typer.Option(help="Name on the Hugging Face Hub.")]
PersonArgument = Annotated[str, typer.Argument(metavar="PERSON", help="A short name: alice.")]


@policy.command()
def init(
    person: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Your name in it; default: by mail.")
    ] = None,
    key: KeyOption = None,
    github: GithubOption = None,
    hub: HubOption = None,
    json: Json = False,
) -> None:
    """Give the registry a policy with you as its maintainer, and sign everything in it.

    Writes policy.yaml, allowed_signers, CODEOWNERS and a CI file, in one commit. Running it again
    changes nothing.
    """
    from lorareg.registry.access import authority, founding, people, signing

    workspace = Workspace.find()
    mine = founding.use_key(workspace, key) if key else signing.key(workspace.root)
    name, _, mail = workspace.history.identity().rpartition(" ")
    details = {"name": name, "mail": mail.strip("<>"), "github": github, "hub": hub}
    entry = people.Entry(
        person or people.name_from(mail.strip("<>")), _given(details), key=mine.public
    )
    commit = founding.found(workspace, entry)
    root = authority.pinned(workspace)
    if json:
        as_json({"commit": commit, "root": root, "ci": founding.CI})
        return
    out.print(f"committed {commit[:10]}: the policy is signed" if commit else "nothing to do")
    out.print(f"teammates compare this with lorareg policy show: root {root}", highlight=False)
    note("now protect the branch on the git host: require review by code owners and the CI check")


@policy.command()
def check(
    base: Annotated[
        str | None,
        typer.Option(metavar="REV", help="Only assets that changed since this branch or commit."),
    ] = None,
    json: Json = False,
) -> None:
    """Check the policy, CODEOWNERS, owners and every signature. Exit status 1 if one fails."""
    from lorareg.registry.access import audit, authority

    workspace = Workspace.find()
    if told := authority.pin(workspace):
        note(told)
    report = audit.check(workspace, base)
    if json:
        as_json({name: [vars(each) for each in found] for name, found in report.items()})
    else:
        for name, found in report.items():
            show_findings(name, found)
            for finding in found:
                if not finding.ok and finding.fix:
                    note(f"     fix: {finding.fix}")
    if any(not each.ok and each.is_hard for found in report.values() for each in found):
        raise typer.Exit(1)


@policy.command()
def show(json: Json = False) -> None:
    """Show people, keys and roles, the root of trust, and who you are in it."""
    from lorareg.registry.access import authority, signing
    from lorareg.registry.access import policy as rules_of

    workspace = Workspace.find()
    rules = _rules(workspace)
    keys = rules_of.keys(rules_of.signers(workspace))
    prints = [(name, signing.fingerprint(public)) for name, public in keys]
    authority.pin(workspace)
    root, me = authority.pinned(workspace), rules_of.me(workspace)
    if json:
        document = rules.model_dump(mode="json", by_alias=True)
        as_json({"policy": document, "keys": prints, "root": root, "me": me})
        return
    rows = [
        (
            person,
            human.name or "",
            "maintainer" if person in rules.maintainers else "",
            " ".join(sorted(g for g in rules.groups if person in rules.expand([f"group:{g}"]))),
            " ".join(print_ for name, print_ in prints if name == person),
        )
        for person, human in rules.people.items()
    ]
    table(("person", "name", "role", "groups", "keys"), rows)
    for channel in rules.channels:
        out.print(f"channel {channel}: {', '.join(sorted(rules.promoters(channel) or ()))}")
    out.print(f"root {root}", highlight=False)
    out.print(f"you are {me or 'not in it'}")


@policy.command()
def add(
    person: PersonArgument,
    key: KeyOption = None,
    name: Annotated[str | None, typer.Option(help="Full name.")] = None,
    mail: Annotated[str | None, typer.Option(help="Address that they commit with.")] = None,
    github: GithubOption = None,
    hub: HubOption = None,
    group: Annotated[list[str] | None, typer.Option(help="Group to join.")] = None,
    maintainer: Annotated[bool, typer.Option("--maintainer", help="Make a maintainer.")] = False,
    json: Json = False,
) -> None:
    """Enter a person or another key of theirs; signs and commits. For maintainers.

    Example:
        lorareg policy add alice --key alice.pub --mail alice@example.org --group characters
    """
    from lorareg.registry.access import people

    public = people.public_key(key) if key else None
    details = {"name": name, "mail": mail, "github": github, "hub": hub}
    entry = people.Entry(person, _given(details), group or (), maintainer, public)
    _change(f"Add {person} to the policy", json, entry=entry)


@policy.command()
def remove(
    person: PersonArgument,
    key: KeyOption = None,
    json: Json = False,
) -> None:
    """Take a person out, or with --key one of their keys; what they signed stays valid."""
    from lorareg.registry.access import people

    public = people.public_key(key) if key else None
    _change(f"Remove {person} from the policy", json, gone=(person, public))


@policy.command()
def apply(json: Json = False) -> None:
    """Check policy.yaml as you edited it, write CODEOWNERS, sign and commit."""
    _change("Change the policy", json)


@policy.command()
def sign(
    refs: RefsArgument = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without being asked.")] = False,
    json: Json = False,
) -> None:
    """Show what changed since the last valid signatures, and sign it if you stand for it.

    Without REF: the policy and every asset. After an attack: restore the files first
    (git checkout COMMIT -- manifests/kind/name), then sign.
    """
    from lorareg.registry.access import audit, founding
    from lorareg.registry.git import trail

    workspace = Workspace.find()
    _rules(workspace)
    named = [str(workspace.find_asset(ref)) for ref in refs or ()]
    subjects = named or ["policy", *map(str, workspace.assets())]
    found = list(audit.unsigned(workspace, subjects))
    for each in found:
        note(f"{each.subject}: {each.why}; since {(each.since or 'the beginning')[:10]}:")
        note(trail.difference(workspace.root, each.since, each.paths))
    if found and not yes:
        _ask(len(found))
    made = founding.sign(workspace, [each.subject for each in found])
    if json:
        as_json({"signed": [asdict(each) for each in found], "commits": made})
    else:
        what = ", ".join(each.subject for each in found)
        out.print(f"signed {what}" if made else "nothing to sign")


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise LoraregError(
            f"{count} changes wait for your signature, and nobody is here to be asked",
            why="they are shown above",
            fix="lorareg policy sign --yes, once you have looked at them",
        )
    if not typer.confirm("Sign all of this?", err=True):
        raise typer.Exit(1)


def _change(
    message: str,
    json: bool,
    entry: Entry | None = None,
    gone: tuple[str, str | None] | None = None,
) -> None:
    """Edit, sign and commit, or leave everything as it was."""
    from lorareg.registry.access import founding

    commit = founding.change(Workspace.find(), message, entry=entry, gone=gone)
    if json:
        as_json({"commit": commit})
    else:
        out.print(f"committed {commit[:10]}: {message}" if commit else "nothing to do")


def _rules(workspace: Workspace) -> Policy:
    from lorareg.registry.access import policy as rules_of

    rules = rules_of.load(workspace)
    if rules is None:
        raise LoraregError("this registry has no policy", fix="lorareg policy init")
    return rules


def _given(details: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in details.items() if value}
