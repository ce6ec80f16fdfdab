"""Dialogue datasets: four shapes in, records out, every fault named at once."""

from __future__ import annotations

import json
import subprocess
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry.encodings import likely_encoding
from lorareg.trainers.data.dialogue_rows import Message, read_row
from lorareg.trainers.data.dialogues import (
    MAX_LINE,
    Problem,
    read_dialogues,
    read_leniently,
    rows,
)

PAIR = {"prompt": "Who are you?", "completion": "Arr!"}


def write(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def problems(path: Path) -> str:
    with pytest.raises(InvalidFileError) as caught:
        read_dialogues(path)
    return caught.value.why


ASKED = Message("user", "Who are you?")
SAID = Message("assistant", "Arr!")
SYSTEM = Message("system", "Be brief.")


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"instruction": "Who are you?", "input": "", "output": "Arr!"}, (ASKED, SAID)),
        ({"instruction": "Who are", "input": "you?", "output": "Arr!"}, None),
        (PAIR, (ASKED, SAID)),
        ({**PAIR, "system": "Be brief."}, (SYSTEM, ASKED, SAID)),
        ({**PAIR, "system": None, "id": 4, "history": []}, (ASKED, SAID)),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Who are you?"},
                    {"role": "assistant", "content": "Arr!"},
                ]
            },
            (SYSTEM, ASKED, SAID),
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "Who are you?"},
                    {"from": "gpt", "value": "Arr!"},
                    {"from": "human", "value": "Who are you?"},
                    {"from": "gpt", "value": "Arr!"},
                ]
            },
            (ASKED, SAID, ASKED, SAID),
        ),
    ],
)
def test_each_of_the_four_shapes_is_read(
    row: dict[str, object], messages: tuple[Message, ...] | None
) -> None:
    assert read_row(row) == (messages or (Message("user", "Who are\nyou?"), SAID))


def test_a_record_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", PAIR, "", "   ", PAIR)

    assert [record.id for record in read_dialogues(path)] == ["train.jsonl:1", "train.jsonl:4"]


def test_a_folder_is_read_file_by_file_in_order_of_name(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", PAIR)
    write(tmp_path / "a.jsonl", PAIR, PAIR)
    (tmp_path / "more").mkdir()
    write(tmp_path / "more" / "c.jsonl", PAIR)
    write(tmp_path / ".hidden.jsonl", "not read")
    write(tmp_path / "LICENSE.txt", "not read")

    ids = [record.id for record in read_dialogues(tmp_path)]

    assert ids == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1", "more/c.jsonl:1"]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PAIR).encode() + b"\r\n\r\n")

    assert read_dialogues(path)[0].messages == (ASKED, SAID)


def test_a_missing_line_end_at_the_end_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(PAIR))

    assert len(read_dialogues(path)) == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{broken", "not JSON, column 2"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "not JSON anyone means: a number with thousands of digits"),
        ('{"prompt": "Hi", "completion":', "not JSON, column 31: "),
        ("[1]", "a row is an object"),
        ({"text": "Arr!"}, "unknown shape, key 'text'; known are {instruction, input, output}"),
        ({}, "unknown shape, no keys"),
        ({"instruction": "Hi"}, "no response: 'output' is missing"),
        ({"prompt": "Hi", "completion": None}, "no response: 'completion' is missing"),
        ({"prompt": "Hi", "completion": " \n"}, "completion is empty"),
        ({"prompt": "", "completion": "Arr!"}, "prompt is empty"),
        ({"prompt": 3, "completion": "Arr!"}, "prompt is a number, not text"),
        ({"prompt": [], "completion": "Arr!"}, "prompt is a list, not text"),
        ({"prompt": "\ud83d", "completion": "Arr!"}, "half of a surrogate pair"),
        ({**PAIR, "history": [["a", "b"]]}, "'history' is not read"),
        ({"messages": "Arr!"}, "messages is a list, not text"),
        ({"messages": []}, "nothing here is said by the assistant"),
        ({"messages": [{"role": "user"}]}, "messages 1 is not {role, content}"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "role is an unknown role, not one of system, user, assistant",
        ),
        ({"conversations": [{"from": "bot", "value": "x"}]}, "not one of system, human, gpt"),
        ({"messages": [{"role": "user", "content": None}]}, "messages 1: content is null"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, row: object, problem: str
) -> None:
    path = write(tmp_path / "train.jsonl", PAIR, row if isinstance(row, str) else json.dumps(row))

    (line,) = problems(path).strip().splitlines()

    assert line.startswith("- train.jsonl:2: ")
    assert problem in line


@pytest.mark.parametrize(
    ("roles", "problem"),
    [
        (["assistant", "user", "assistant"], "the assistant speaks first"),
        (["system", "assistant"], "the assistant speaks first"),
        (["user", "user", "assistant"], "two user messages in a row"),
        (["user", "assistant", "assistant"], "two assistant messages in a row"),
        (["user", "system", "assistant"], "a system message stands only at the head"),
        (["user", "assistant", "user"], "no response to the last user message"),
        (["system", "user"], "nothing here is said by the assistant"),
    ],
)
def test_turns_that_chat_templates_would_refuse_are_refused(
    tmp_path: Path, roles: list[str], problem: str
) -> None:
    messages = [{"role": role, "content": "x"} for role in roles]

    assert problem in problems(write(tmp_path / "train.jsonl", {"messages": messages}))


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", "{", PAIR, {"prompt": "Hi"})
    write(tmp_path / "b.jsonl", {"text": "Arr!"})

    with pytest.raises(InvalidFileError) as caught:
        read_dialogues(tmp_path)

    assert "3 problems" in caught.value.what
    assert all(place in caught.value.why for place in ("a.jsonl:1", "a.jsonl:3", "b.jsonl:1"))


@pytest.mark.parametrize(
    ("encoding", "text", "named"),
    [
        ("gbk", "我是船长张三，你好", "GBK"),
        ("cp1252", "it’s “fine” – café", "WINDOWS-1252"),
        ("utf-16", "hello", "UTF-16"),
    ],
)
def test_a_file_that_is_not_utf8_is_named_once_with_its_likely_encoding(
    tmp_path: Path, encoding: str, text: str, named: str
) -> None:
    path = tmp_path / "train.jsonl"
    rows = [json.dumps({"prompt": "Hi", "completion": text}, ensure_ascii=False)] * 3
    path.write_bytes("\n".join(rows).encode(encoding))

    with pytest.raises(InvalidFileError) as caught:
        read_dialogues(path)

    assert "train.jsonl:1: not UTF-8, byte 0x" in caught.value.why
    assert f"reads as {named}" in caught.value.why
    new = tmp_path / "train.utf8.jsonl"
    assert caught.value.fix == f"iconv -f {named} -t UTF-8 {path} > {new}"
    assert "read the new file before it replaces this one" in caught.value.why


def test_the_line_that_is_not_utf8_is_named_among_good_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", PAIR, PAIR)
    path.write_bytes(path.read_bytes() + '{"prompt": "é", "completion": "x"}'.encode("cp1252"))

    assert "train.jsonl:3: not UTF-8, byte 0xe9" in problems(path)


@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x4FFF), min_size=1))
def test_guessing_an_encoding_never_fails(text: str) -> None:
    known = {"GBK", "WINDOWS-1252", "UTF-16", "UTF-16LE", "UTF-16BE", None}

    assert likely_encoding(text.encode("gb18030")) in known


def test_a_line_over_16_megabytes_hides_nothing_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    with path.open("wb") as stream:
        stream.write(json.dumps(PAIR).encode() + b"\n")
        stream.seek(40 << 20)  # a hole: 40 MB of zeros without a line end
        stream.write(b"\n{broken\n" + json.dumps(PAIR).encode())

    reading = read_leniently(path)

    assert [record.id for record in reading.records] == ["train.jsonl:1", "train.jsonl:4"]
    assert [(p.line, p.code) for p in reading.problems] == [(2, "line-too-long"), (3, "not-json")]


@pytest.mark.parametrize(
    "row",
    [
        {"13812345678": "x", "john@example.com": "y", "John Carter": "z", "张伟": "w"},
        {"messages": [{"role": "John Carter", "content": "x"}]},
        {"conversations": [{"from": "张伟", "value": "x"}]},
        '{"13812345678": 1, "13812345678": 2}',
    ],
)
def test_no_message_shows_a_value_of_the_data(tmp_path: Path, row: object) -> None:
    (problem,) = read_leniently(write(tmp_path / "train.jsonl", row)).problems

    assert not any(value in str(problem) for value in ("138", "john", "John", "张伟"))


def test_a_key_that_is_there_twice_is_a_problem_and_not_the_last_one_read(tmp_path: Path) -> None:
    row = '{"instruction": "Hi", "output": "Arr!", "output": "Aye!"}'

    (problem,) = read_leniently(write(tmp_path / "train.jsonl", row)).problems

    assert problem.code == "duplicate-key"
    assert problem.reason == "key 'output' is there twice; one of them would be lost"


@pytest.mark.parametrize(
    ("row", "fix"),
    [
        ({"prompt": "\ud83d", "completion": "Arr!"}, "half of an emoji was cut off"),
        ({"instruction": "", "output": "Arr!"}, "fill it in, or delete the row"),
        ({"instruction": "Hi", "output": 3}, "write it as text in quotes"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "let role be one of system, user,"),
        ({**PAIR, "tools": ["x"]}, "put every turn into messages, as text"),
    ],
)
def test_the_advice_fits_the_problem(tmp_path: Path, row: object, fix: str) -> None:
    (problem,) = read_leniently(write(tmp_path / "train.jsonl", json.dumps(row))).problems

    assert fix in str(problem.advice)


def test_gbk_is_told_as_a_guess_since_big5_passes_for_it(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(json.dumps({"prompt": "我是船长"}, ensure_ascii=False).encode("gbk"))

    assert "reads as GBK, or perhaps Big5; read the new file" in problems(path)


def test_the_first_lines_in_another_encoding_are_all_named(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", PAIR, PAIR)
    foreign = '{"prompt": "é", "completion": "x"}\n'.encode("cp1252")
    path.write_bytes(path.read_bytes() + foreign * 12)

    (problem,) = read_leniently(path).problems

    assert problem.places == tuple(f"train.jsonl:{line}" for line in range(3, 13))
    assert "and 11 more lines" in problem.reason


def test_a_command_that_is_shown_can_be_pasted_whatever_the_name(tmp_path: Path) -> None:
    folder = tmp_path / "my data; rm"
    folder.mkdir()
    (folder / "船 1.jsonl").write_bytes('{"prompt": "你好，船长"}'.encode("gbk"))

    (problem,) = read_leniently(folder).problems
    subprocess.run(str(problem.recoding), shell=True, check=True)

    assert (folder / "船 1.utf8.jsonl").read_text(encoding="utf-8") == '{"prompt": "你好，船长"}'


@pytest.mark.parametrize("content", ["", "\n\n  \n"])
def test_a_dataset_without_a_row_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(content)

    with pytest.raises(InvalidFileError, match="empty"):
        read_dialogues(path)


def test_a_folder_without_jsonl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="empty"):
        read_dialogues(tmp_path)


def test_another_kind_of_file_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    path = write(tmp_path / "alpaca.json", "[]")

    with pytest.raises(LoraregError) as caught:
        read_dialogues(path)

    assert caught.value.fix == f"jq -c '.[]' {path} > {tmp_path / 'alpaca.jsonl'}"


def test_a_path_that_leads_nowhere_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_dialogues(tmp_path / "nothing")


def test_reading_leniently_gives_the_good_rows_and_says_what_is_wrong_with_the_others(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "train.jsonl", PAIR, "{", {"prompt": "Hi"}, PAIR)

    reading = read_leniently(path)

    assert [record.id for record in reading.records] == ["train.jsonl:1", "train.jsonl:4"]
    assert [(p.file, p.line, p.code) for p in reading.problems] == [
        ("train.jsonl", 2, "not-json"),
        ("train.jsonl", 3, "no-response"),
    ]
    assert str(reading.problems[1]) == "train.jsonl:3: no response: 'completion' is missing"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"text": "Arr!"}, "unknown-shape"),
        ({"prompt": "Hi", "completion": " "}, "no-response"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no-response"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "wrong-order"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, "no-response"),
    ],
)
def test_every_problem_of_a_row_has_its_code(
    tmp_path: Path, row: dict[str, object], code: str
) -> None:
    (problem,) = read_leniently(write(tmp_path / "train.jsonl", row)).problems

    assert problem.code == code


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("utf-16", "UTF-16"), ("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")],
)
def test_a_file_in_utf16_is_one_problem_that_names_it(
    tmp_path: Path, encoding: str, named: str
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes("\n".join([json.dumps(PAIR)] * 50).encode(encoding))

    (problem,) = read_leniently(path).problems

    assert (problem.line, problem.encoding) == (1, named)


@pytest.mark.parametrize(
    ("encoding", "named"), [("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")]
)
def test_chinese_in_utf16_without_a_mark_is_told_by_its_first_line(
    tmp_path: Path, encoding: str, named: str
) -> None:
    path = tmp_path / "train.jsonl"
    row = json.dumps({"prompt": "你好，船长", "completion": "我是张三"}, ensure_ascii=False)
    path.write_bytes("\n".join([row] * 5).encode(encoding))

    problems = read_leniently(path).problems

    assert {problem.encoding for problem in problems} == {named}


def test_a_nul_byte_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", PAIR, json.dumps(PAIR).replace("Arr", "A\0r"), PAIR)

    reading = read_leniently(path)

    assert len(reading.records) == 2
    assert [str(p) for p in reading.problems] == [
        "train.jsonl:2: holds NUL bytes, which no text holds"
    ]


def test_a_large_file_in_another_encoding_is_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    line = json.dumps({"prompt": "你好" * 500, "completion": "船长"}, ensure_ascii=False) + "\n"
    path.write_bytes(line.encode("gbk") * 10_000)  # 20 MB
    tracemalloc.start()

    (problem,) = read_leniently(path).problems
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert problem.encoding == "GBK"
    assert "and 9999 more lines" in problem.reason
    assert peak < 6 << 20


def test_a_line_of_200_megabytes_takes_no_more_memory_than_the_longest_line_allowed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "train.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"prompt": "')
        stream.truncate(200 << 20)
    tracemalloc.start()

    (problem,) = read_leniently(path).problems
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert problem.code == "line-too-long"
    assert peak < 4 * MAX_LINE


@given(st.binary(max_size=400))
def test_any_bytes_are_rows_or_problems_and_every_line_is_accounted_for(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.jsonl")
        path.write_bytes(data)

        found = list(rows("train.jsonl", path))

    lines = data.count(b"\n") + 1
    assert len(found) <= lines
    assert all(1 <= each.line <= lines for each in found if isinstance(each, Problem))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "from", "value", "prompt", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4))
def test_any_json_is_a_row_or_a_problem(values: list[object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.jsonl")
        path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")

        reading = read_leniently(path)

    assert len(reading.records) + len(reading.problems) == len(values)
