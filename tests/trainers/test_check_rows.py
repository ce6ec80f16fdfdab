"""Checking dialogues: every planted problem is found, at its row, and nothing else is."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.registry import dataset
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.data.check import languages, lengths, text_data, turns
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.lengths import Limit
from lorareg.trainers.data.check.resemblance import Resemblance, similarity
from lorareg.trainers.data.check.rows import Checked, check
from lorareg.trainers.data.check.run import Place
from lorareg.trainers.data.check.wishes import Wishes
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text.chat import Chat


def none_held_out(ids: Sequence[str]) -> Collection[str]:
    return ()


def quiet(what: str, done: int, total: int) -> None:
    assert 0 < done <= total


def pair(question: str, answer: str) -> dict[str, str]:
    return {"prompt": question, "completion": answer}


def checked(tmp_path: Path, *rows: object, held_out: Collection[str] = ()) -> Checked:
    path = tmp_path / "train.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return check(path, encode=None, limit=Limit(64), held_out=lambda ids: held_out, stage=quiet)


def brief(findings: Sequence[Finding]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Code, severity and line numbers."""
    return sorted(
        (f.code, f.severity, tuple(file.rpartition(":")[2] for file in f.files)) for f in findings
    )


GOOD = [
    pair("How many hearts does an octopus have?", "Three hearts, and blue blood in them."),
    pair("Which planet is the largest one?", "Jupiter, by far the largest of them all."),
    pair("Why is the sky blue in the daytime?", "Air scatters blue light more than red light."),
    pair("Wer schrieb den Faust?", "Goethe, und er brauchte sechzig Jahre dafür."),
]


def test_good_rows_give_no_finding(tmp_path: Path) -> None:
    found = checked(tmp_path, *GOOD)

    assert found.findings == ()
    assert found.answers == {f"train.jsonl:{line}": 1 for line in (1, 2, 3, 4)}
    assert found.scripts == {"Latin": 4}


def test_every_planted_problem_is_found_at_its_row_and_nothing_else(tmp_path: Path) -> None:
    found = checked(
        tmp_path,
        *GOOD,
        "{broken",
        {"prompt": "And now?"},
        {"messages": [{"role": "assistant", "content": "Hello."}]},
        {"text": "no shape"},
        {"prompt": "Is it so?", "completion": "It is\u0000 so, captain."},
        GOOD[0],
        pair("Which planet is the LARGEST one?", "Jupiter, by far the largest one of them all."),
        pair("Why is the sky blue in the daytime?", "Because the gods of the sea painted it."),
        pair("How do I boil an egg for breakfast?", "先把水烧开，然后把鸡蛋放进去煮八分钟。"),
        pair("Whom do I ask about the invoice?", "Call me: +1 415 555 0132, my name is John Hill."),
    )

    assert brief(found.findings) == [
        ("contradictory-answers", "note", ("3", "12")),
        ("duplicate", "warning", ("1", "10")),
        ("language-mix", "note", ("13",)),
        ("near-duplicate", "warning", ("2", "11")),
        ("no-response", "error", ("6",)),
        ("not-json", "error", ("5",)),
        ("odd-characters", "warning", ("9",)),
        ("other-language", "warning", ("13",)),
        ("personal-data", "warning", ("14",)),
        ("unknown-shape", "error", ("8",)),
        ("wrong-order", "error", ("7",)),
    ]


def test_personal_data_is_counted_by_kind_and_never_shown(tmp_path: Path) -> None:
    (found,) = checked(
        tmp_path, pair("我叫张伟，电话13812345678，也可以打010-62345678。", "好的，已记下。")
    ).findings

    assert found.why == "1 NAME, 2 PHONE"
    assert "张伟" not in str(found)
    assert "138" not in str(found)
    assert found.fix == (
        f"lorareg data redact {tmp_path / 'train.jsonl'} --out {tmp_path / 'train-redacted.jsonl'}"
    )


def test_the_folder_one_stands_in_can_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my talk"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps(pair("Who?", "Mail jane@x.org, captain.")))
    monkeypatch.chdir(folder)

    (found,) = check(
        Path(), encode=None, limit=Limit(64), held_out=none_held_out, stage=quiet
    ).findings

    assert found.fix == f"lorareg data redact '{folder}' --out '{tmp_path / 'my talk-redacted'}'"


@pytest.mark.parametrize("folder", ["tone_pirate"])
def test_the_sample_dialogues_give_no_false_alarm(folder: str) -> None:
    path = Path(__file__).parents[2] / "data" / folder
    if not path.is_dir():
        pytest.skip("needs the sample data: lorareg pull")

    found = check(
        path, encode=None, limit=Limit(64), held_out=lambda ids: set(ids[::10]), stage=quiet
    )

    assert len(found.records) == 100
    assert found.findings == ()


def test_a_dataset_without_a_row_is_an_error(tmp_path: Path) -> None:
    assert brief(checked(tmp_path, "", " ").findings) == [("empty", "error", ("train.jsonl",))]


def test_a_file_in_gbk_comes_with_the_command_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "对话 1.jsonl"
    path.write_bytes(json.dumps(pair("你好吗？", "我很好。"), ensure_ascii=False).encode("gbk"))

    (found,) = check(
        path, encode=None, limit=Limit(64), held_out=none_held_out, stage=quiet
    ).findings

    assert found.code == "not-utf8"
    new = tmp_path / "对话 1.utf8.jsonl"
    assert found.fix == f"iconv -f GBK -t UTF-8 '{path}' > '{new}'"


def test_the_same_turn_on_both_sides_of_the_split_is_leakage(tmp_path: Path) -> None:
    found = checked(tmp_path, *GOOD, GOOD[1], held_out={"train.jsonl:5"})

    assert brief(found.findings) == [("leakage", "warning", ("2", "5"))]
    assert "train.jsonl:5 is held out" in found.findings[0].why


def test_rows_that_are_all_held_out_are_duplicates_and_no_leakage(tmp_path: Path) -> None:
    found = checked(tmp_path, *GOOD, GOOD[1], held_out={"train.jsonl:2", "train.jsonl:5"})

    assert [finding.code for finding in found.findings] == ["duplicate"]


def test_the_split_is_not_asked_for_while_rows_are_to_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(GOOD[0]) + "\n{\n")

    def refuse(ids: Sequence[str]) -> Collection[str]:
        raise AssertionError("the split of a broken dataset means nothing")

    found = check(path, encode=None, limit=Limit(64), held_out=refuse, stage=quiet)

    assert [finding.code for finding in found.findings] == ["not-json"]


def record(number: int, *texts: str) -> DialogueRecord:
    roles = ("user", "assistant") * len(texts)
    messages = tuple(Message(role, text) for role, text in zip(roles, texts, strict=False))
    return DialogueRecord(f"a.jsonl:{number}", messages)


LONG = (
    "张先生昨天下午在图书馆里找到了一本很旧的书，书里夹着一张三十年前的照片",
    "照片上的人站在一座木桥旁边，桥下的河水已经干了，远处可以看到一排白色的房子",
)


def test_chinese_turns_are_near_duplicates_when_a_few_characters_differ() -> None:
    changed = (LONG[0], LONG[1].replace("木桥", "石桥"))

    found = list(turns.findings([record(1, *LONG), record(2, *changed)], (), quiet))

    assert brief(found) == [("near-duplicate", "warning", ("1", "2"))]


def test_exact_duplicates_are_named_as_such_though_a_third_row_is_similar() -> None:
    changed = (LONG[0], LONG[1].replace("木桥", "石桥"))
    rows = [record(1, *LONG), record(2, *LONG), record(3, *changed)]

    found = list(turns.findings(rows, (), quiet))

    assert brief(found) == [
        ("duplicate", "warning", ("1", "2")),
        ("near-duplicate", "warning", ("1", "2", "3")),
    ]


def test_all_rows_of_a_template_are_named() -> None:
    names = ["Tom", "Anna", "Bartholomew", "Kim", "Alexandra", "Bo", "Christopher", "Lee"]
    names += ["Maximilian", "Zoe"]
    asked = "Please write a short birthday greeting for my old friend {} from the harbour."
    said = "Dear {}, all of the crew wish you a happy birthday and fair winds for the new year!"
    rows = [record(n, asked.format(name), said.format(name)) for n, name in enumerate(names)]

    (found,) = turns.findings(rows, (), quiet)

    assert (found.code, len(found.files)) == ("near-duplicate", 10)


def test_short_chinese_questions_that_differ_in_a_character_are_near_duplicates() -> None:
    answer = "点击登录页面上的“忘记密码”，再按照邮件{}的提示操作{}"
    rows = [
        record(1, "如何重置我在网站上的密码？", answer.format("中", "即可。")),
        record(2, "如何重置我在网站的密码？", answer.format("里", "即可！")),
        record(3, "如何修改我在网站上的头像？", "打开个人资料，点击头像就能上传一张新的图片。"),
    ]

    found = list(turns.findings(rows, (), quiet))

    assert brief(found) == [("near-duplicate", "warning", ("1", "2"))]


def test_yes_and_no_to_one_long_question_contradict_each_other() -> None:
    question = "Is the master of the harbour standing on the quay with his dog again this morning?"

    found = list(
        turns.findings([record(1, question, "Yes."), record(2, question, "No.")], (), quiet)
    )

    assert brief(found) == [("contradictory-answers", "note", ("1", "2"))]


def test_sums_with_other_numbers_are_no_duplicates() -> None:
    asked = "Please tell me how many barrels of salted fish the harbour master counted on day {}."
    said = "He counted all of them twice and wrote this number into his book: {} barrels of fish."
    rows = [record(n, asked.format(n), said.format(2 * n)) for n in range(9)]

    assert list(turns.findings(rows, (), quiet)) == []


def test_thanks_may_be_said_in_every_conversation() -> None:
    rows = [
        record(1, "How deep is the sea here?", "Forty fathoms.", "Thanks!", "You are welcome."),
        record(2, "Where is the harbour master?", "On the quay.", "Thanks!", "You are welcome."),
    ]

    assert list(turns.findings(rows, (), quiet)) == []


def test_a_turn_repeated_within_one_dialogue_is_named() -> None:
    turn = ("Where is the harbour master today?", "He is standing on the quay with his dog.")

    (found,) = turns.findings([record(1, *turn, *turn)], (), quiet)

    assert (found.code, found.files) == ("repeated-turn", ("a.jsonl:1",))


def test_the_same_question_after_other_words_is_no_contradiction() -> None:
    rows = [
        record(1, "I am four years old.", "Hello, little one!", "How old am I?", "Four."),
        record(2, "I have just turned ninety.", "Respect, captain!", "How old am I?", "Ninety."),
    ]

    assert list(turns.findings(rows, (), quiet)) == []


def test_near_duplicates_are_found_in_time_that_grows_with_the_rows() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(3000)]

    def seconds(count: int) -> float:
        seen, found = Resemblance(), 0
        texts = [" ".join(draw.choices(words, k=40)) for _ in range(count)]
        texts[-1] = texts[0].replace(texts[0].split()[5], "changed")
        start = time.process_time()
        for number, text in enumerate(texts):
            found += len(list(seen.find_and_add(number, text)))
        assert found == 1
        return time.process_time() - start

    assert seconds(4000) < 12 * seconds(1000)


@given(st.text(), st.text())
def test_resemblance_is_symmetric_and_one_for_the_same(one: str, other: str) -> None:
    assert similarity(one, one) == 1
    assert similarity(one, other) == similarity(other, one)
    assert 0 <= similarity(one, other) <= 1


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Ahoy there, captain", "Latin"),
        ("船长，今天的风很大", "Han"),
        ("船長、今日は風が強いです", "Kana"),
        ("선장님, 오늘은 바람이 강합니다", "Hangul"),
        ("Капитан, сегодня сильный ветер", "Cyrillic"),
        ("يا قبطان، الرياح قوية اليوم", "Arabic"),
        ("12 + 30 = 42", None),
        ("用 Python 写 print 语句 for 循环和 while", None),
    ],
)
def test_the_script_of_a_text_is_told_from_its_letters(text: str, script: str | None) -> None:
    assert languages.main_script(text) == script


def test_who_asks_for_a_translation_gets_another_language() -> None:
    rows = [
        record(1, "Translate into Chinese: the wind is strong.", "今天的风很大，请小心。"),
        record(2, "请用英语回答：船长在哪里？", "The captain is standing on the quay."),
    ]

    assert [f.code for f in languages.findings(rows)] == ["language-mix"]


def test_a_question_in_kanji_alone_may_be_answered_in_kana() -> None:
    japanese = [record(1, "東京都庁所在地？", "とうきょうの新宿にあります。")]
    chinese = [record(1, "东京在哪里？", "とうきょうは日本にあります。")]

    assert list(languages.findings(japanese)) == []
    assert [f.code for f in languages.findings(chinese)] == ["other-language"]


@pytest.mark.parametrize(
    "mark", ["<|im_end|>", "<|endoftext|>", "[INST]", "</s>", "<|eot_id|>", "<start_of_turn>"]
)
def test_a_mark_of_a_chat_template_in_a_message_is_named_without_a_base(
    tmp_path: Path, mark: str
) -> None:
    found = checked(tmp_path, *GOOD, pair("What is your name?", f"I am the captain.{mark}"))

    assert brief(found.findings) == [("control-token", "warning", ("5",))]
    assert mark in found.findings[0].why


def test_without_a_base_the_check_says_what_it_left_out(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in GOOD))
    place = Place(path, "train.jsonl", tmp_path / "cache")
    listing = dataset.scan(path, place.digests)

    report = text_data.check(place, listing, Wishes("text-generation"), quiet)

    assert brief(report.findings) == [("uncounted", "note", ())]
    assert "name one with --base" in report.findings[0].why


def test_a_few_rows_in_another_language_are_a_warning_and_many_a_note() -> None:
    english = [record(n, "Where is he?", "He is standing on the quay.") for n in range(30)]
    few = [record(99, "船长现在在哪里？", "他正站在码头上等我们。")]

    (warning,) = languages.findings(english + few)
    (note,) = languages.findings(english + few * 20)

    assert (warning.code, warning.severity, note.severity) == ("language-mix", "warning", "note")
    assert "Latin 97%, Han 3%" in warning.why


def test_dialogues_are_counted_in_tokens_as_training_sees_them(
    pico_llama: ResolvedBase, dialogues: Sequence[DialogueRecord], tmp_path: Path
) -> None:
    from lorareg.trainers.text.task import TextTask

    chat = lengths.chat(pico_llama, tmp_path)
    longest = max(lengths.measure(dialogues, chat.sequences, Limit(10_000), quiet).tokens.values())

    measured = lengths.measure(dialogues, chat.sequences, Limit(longest - 1), quiet)

    cut = TextTask(pico_llama, dialogues, TextTraining(max_length=longest - 1))._tokens.cut
    assert tuple(f.files[0] for f in measured.findings) == cut
    assert measured.findings[0].code == "truncated"
    assert f"max_length {longest - 1} keeps the first" in measured.findings[0].why


def test_a_dialogue_whose_responses_are_cut_off_whole_is_an_error(
    pico_llama: ResolvedBase, tmp_path: Path
) -> None:
    long = record(7, "x " * 300, "Arr!")

    (found,) = lengths.measure(
        [long], lengths.chat(pico_llama, tmp_path).sequences, Limit(32), quiet
    ).findings

    assert (found.code, found.severity) == ("truncated-to-nothing", "error")
    assert "no token of a response is within max_length 32" in found.why


def test_a_response_counts_from_its_first_token_within_max_length(
    pico_llama: ResolvedBase, tmp_path: Path
) -> None:
    chat = lengths.chat(pico_llama, tmp_path)
    talk = record(1, "Who are you?", "A captain, and a good one.")
    first = chat.rows(talk.messages, 1000)[0].learned[0]

    (nothing,) = lengths.measure([talk], chat.sequences, Limit(first), quiet).findings
    (one,) = lengths.measure([talk], chat.sequences, Limit(first + 1), quiet).findings

    assert (nothing.code, one.code) == ("truncated-to-nothing", "truncated")


def test_a_text_that_holds_a_control_token_is_refused_by_the_template(
    pico_llama: ResolvedBase, tmp_path: Path
) -> None:
    chat = lengths.chat(pico_llama, tmp_path)
    mark = chat.tokenizer.eos_token

    (found,) = lengths.measure(
        [record(1, f"Hi {mark}", "Arr!")], chat.sequences, Limit(64), quiet
    ).findings

    assert (found.code, found.severity) == ("refused-by-template", "error")
    assert found.fix == "take the token out of the text, or delete the row"


def test_a_system_message_that_the_template_refuses_comes_with_its_own_remedy(
    pico_llama: ResolvedBase, tmp_path: Path
) -> None:
    own = lengths.chat(pico_llama, tmp_path)
    tokenizer = copy.deepcopy(own.tokenizer)
    refusing = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    tokenizer.chat_template = refusing + own.template
    talk = DialogueRecord(
        "a.jsonl:1",
        (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Arr!")),
    )

    (found,) = lengths.measure([talk], Chat(tokenizer).sequences, Limit(64), quiet).findings

    assert "no system" in found.why
    assert "put its words into the first message of the user" in found.fix
