"""Redacting a dataset: all of it or nothing, the original untouched, no value in any message."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lorareg.cli.redact import redact as command
from lorareg.cli.root import Root
from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry import dataset
from lorareg.registry.digest import DigestCache
from lorareg.trainers.data.redact import record
from lorareg.trainers.data.redact.run import Report, redact_dataset

ROWS = [
    {"prompt": "我叫张伟，电话13812345678", "completion": "张伟你好", "id": "a"},
    {"prompt": "Who are you?", "completion": "A captain.", "id": "b"},
    {"messages": [{"role": "user", "content": "Mail jane@x.org"},
                  {"role": "assistant", "content": "Done."}]},
]  # fmt: skip
SECRETS = ("张伟", "13812345678", "jane@x.org")


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(
        (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n"
        for row in rows
    )
    path.write_text(text, encoding="utf-8")
    return path


def quiet(what: str, done: int, total: int) -> None:
    assert done <= total


def run(source: Path, out: Path) -> Report:
    return redact_dataset(source, out, quiet)


def digests(path: Path) -> dict[str, str]:
    return dict(dataset.scan(path, DigestCache(None)).files)


def test_a_file_is_redacted_to_another_with_a_record_beside_it(tmp_path: Path) -> None:
    source = write(tmp_path / "talk.jsonl", *ROWS)
    before = source.read_bytes()

    report = run(source, tmp_path / "clean.jsonl")

    rows = [json.loads(line) for line in (tmp_path / "clean.jsonl").read_text("utf-8").splitlines()]
    assert rows[0] == {
        "prompt": "我叫[NAME_1]，电话[PHONE_1]", "completion": "[NAME_1]你好", "id": "a"
    }  # fmt: skip
    assert rows[1] == ROWS[1]
    assert (report.rows, report.touched) == (3, 2)
    assert report.replaced == {"NAME": 2, "PHONE": 1, "EMAIL": 1}
    assert source.read_bytes() == before


def test_the_record_holds_digests_counts_and_versions_and_no_value(tmp_path: Path) -> None:
    source, out = write(tmp_path / "talk.jsonl", *ROWS), tmp_path / "clean.jsonl"

    run(source, out)

    text = (tmp_path / "clean.redaction.json").read_text("utf-8")
    kept = json.loads(text)
    assert kept["schema"] == "lorareg/redaction/1"
    assert kept["source"] == f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"
    assert kept["output"] == f"sha256:{hashlib.sha256(out.read_bytes()).hexdigest()}"
    assert kept["replaced"] == {"EMAIL": 1, "NAME": 2, "PHONE": 1}
    assert set(kept["engines"]) == {"rjieba", "python-stdnum"}
    assert not any(secret in text for secret in SECRETS)


def test_a_dataset_counts_as_redacted_until_it_is_changed(tmp_path: Path) -> None:
    source, out = write(tmp_path / "talk.jsonl", *ROWS), tmp_path / "clean.jsonl"
    run(source, out)

    assert not record.unredacted(out, digests(out))
    assert record.unredacted(source, digests(source))
    write(out, *ROWS)
    assert record.unredacted(out, digests(out))


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    out = tmp_path / "clean.jsonl"
    run(write(tmp_path / "talk.jsonl", *ROWS), out)

    for text in ("", "[]", "{}", "[" * 100_000):
        record.path_of(out).write_text(text)
        assert record.unredacted(out, digests(out))


def test_a_folder_is_redacted_to_a_new_folder_file_by_file(tmp_path: Path) -> None:
    source = tmp_path / "对话"
    write(source / "a.jsonl", ROWS[0])
    write(source / "more" / "b.jsonl", ROWS[2])
    write(source / "ATTRIBUTION.md", "by us")

    report = run(source, tmp_path / "clean")

    assert report.files == ["a.jsonl", "more/b.jsonl"]
    assert report.left_out == ["ATTRIBUTION.md"]
    assert not record.unredacted(tmp_path / "clean", digests(tmp_path / "clean"))
    write(tmp_path / "clean" / "c.jsonl", ROWS[1])
    assert record.unredacted(tmp_path / "clean", digests(tmp_path / "clean"))


def test_rows_that_cannot_be_read_are_all_named_and_nothing_is_written(tmp_path: Path) -> None:
    source = write(
        tmp_path / "talk.jsonl",
        ROWS[0],
        "{",
        {"messages": [{"role": "张伟", "content": "x"}]},
        {"prompt": "Hi", "completion": "Yo", "jane@x.org": 1},
    )

    with pytest.raises(InvalidFileError) as caught:
        run(source, tmp_path / "clean.jsonl")

    assert "3 problems" in caught.value.what
    assert all(f"talk.jsonl:{line}: " in caught.value.why for line in (2, 3, 4))
    assert "a key of the row holds personal data (EMAIL)" in caught.value.why
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert [path.name for path in tmp_path.iterdir()] == ["talk.jsonl"]


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("talk.jsonl", "is the dataset itself"),
        ("clean.txt", "is no .jsonl file"),
        ("there.jsonl", "there is already a there.jsonl"),
    ],
)
def test_an_output_that_would_harm_something_is_refused(
    tmp_path: Path, out: str, problem: str
) -> None:
    source = write(tmp_path / "talk.jsonl", *ROWS)
    write(tmp_path / "there.jsonl", ROWS[1])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(LoraregError, match=problem):
        run(source, tmp_path / out)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_is_not_redacted_into_itself(tmp_path: Path) -> None:
    write(tmp_path / "talk" / "a.jsonl", ROWS[0])

    with pytest.raises(LoraregError, match="inside it"):
        run(tmp_path / "talk", tmp_path / "talk" / "clean")


def test_a_dataset_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        run(tmp_path / "nothing", tmp_path / "clean")


def test_memory_does_not_grow_with_the_dataset(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        filled = [{"prompt": "Mail jane@x.org " + "x" * 2000, "completion": "Done."}] * rows
        source = write(tmp_path / f"talk{rows}.jsonl", *filled)
        tracemalloc.start()
        run(source, tmp_path / f"clean{rows}.jsonl")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # the word lists are read once

    assert peak(300) < peak(20) + (300 << 10)


def app() -> typer.Typer:
    """The command within a group, as ``lorareg data`` has it."""
    made = typer.Typer(cls=Root)
    made.command()(command)
    made.callback()(lambda: None)
    return made


def test_the_command_reports_counts_and_never_values(tmp_path: Path) -> None:
    source = write(tmp_path / "talk.jsonl", *ROWS)

    done = CliRunner().invoke(
        app(), ["redact", str(source), "--out", str(tmp_path / "clean.jsonl")]
    )

    assert done.exit_code == 0
    assert "2 of 3 rows touched" in done.output
    assert not any(secret in done.output for secret in SECRETS)


def test_the_command_prints_one_json_document(tmp_path: Path) -> None:
    source = write(tmp_path / "talk.jsonl", *ROWS)

    done = CliRunner().invoke(
        app(), ["redact", str(source), "--out", str(tmp_path / "clean.jsonl"), "--json"]
    )

    answer = json.loads(done.stdout)
    assert answer["rows"] == 3
    assert answer["replaced"] == {"EMAIL": 1, "NAME": 2, "PHONE": 1}


def test_the_command_refuses_a_broken_dataset_with_status_2(tmp_path: Path) -> None:
    source = write(tmp_path / "talk.jsonl", "{")

    done = CliRunner().invoke(app(), ["redact", str(source), "--out", str(tmp_path / "c.jsonl")])

    assert done.exit_code == 2
    assert "talk.jsonl:1: not JSON" in done.output
