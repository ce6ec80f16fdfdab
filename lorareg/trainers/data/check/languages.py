"""Which scripts the dialogues are written in, and answers in another one than their questions.

Scripts, not languages: what separates 中文 from English or русский is certain from the first
letters on. Telling French from Spanish in a sentence of five words is a guess, and a check that
guesses wrong is soon ignored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.dialogues import DialogueRecord

SCRIPTS = {
    "Latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f",
    "Kana": "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "Hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "Cyrillic": "\u0400-\u052f",
    "Greek": "\u0370-\u03ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Hebrew": "\u0590-\u05ff",
    "Devanagari": "\u0900-\u097f",
    "Thai": "\u0e00-\u0e7f",
}
_RUNS = {name: re.compile(f"[{letters}]+") for name, letters in SCRIPTS.items()}
# An English word has between four and five letters, a Chinese one between one and two characters.
WEIGHTS = {"Han": 3, "Kana": 2, "Hangul": 3}
MAIN = 0.6  # of a text's weighted letters, to call it written in a script
LEAST = 12  # weighted letters of a text that tells anything
FEW = 0.1  # share of a dataset below which another script is more likely a slip than a plan
# Who asks for another language gets one.
_ASKS = re.compile(
    "translat|翻译|译成|译为|用(?:中|英|日|法|德|俄|韩)[文语]|英文|英语|中文|汉语|日语|韩语|俄语|法语|德语|"
    r"\bin (?:english|chinese|mandarin|japanese|korean|russian|arabic|french|german|spanish)\b|"
    "chinese|japanese|korean|russian|arabic|перевед|по-английски|pinyin|拼音|代码|code|python|sql",
    re.I,
)


def main_script(text: str) -> str | None:
    """The script of most of a text; None if it is too short or too mixed to say.

    Japanese is written in Kana and Han together: Kana decides.

    >>> main_script("Hello there, captain"), main_script("船长，你好！"), main_script("42")
    ('Latin', 'Han', None)
    """
    letters = {
        name: WEIGHTS.get(name, 1) * sum(map(len, run.findall(text))) for name, run in _RUNS.items()
    }
    if letters["Kana"]:
        letters["Kana"] += letters.pop("Han")
    total = sum(letters.values())
    name, most = max(letters.items(), key=lambda item: item[1])
    return name if total >= LEAST and most >= MAIN * total else None


def of_answers(records: Sequence[DialogueRecord]) -> dict[str, int]:
    """Script -> records whose answers are mainly written in it, the commonest first."""
    found = Counter(script for record in records if (script := main_script(_said(record))))
    return dict(found.most_common())


def findings(records: Sequence[DialogueRecord]) -> Iterator[Finding]:
    """Answers in another script than the question, and scripts that few of the answers are in."""
    for record in records:
        yield from _switches(record)
    found = of_answers(records)
    total = sum(found.values())
    if len(found) < 2:
        return
    shares = ", ".join(f"{script} {count / total:.0%}" for script, count in found.items())
    for script, count in list(found.items())[1:]:
        rows = tuple(each.id for each in records if main_script(_said(each)) == script)
        why = f"{count} of {total} rows answer in {script} ({shares})"
        few = count < FEW * total
        fix = (
            f"see whether the model shall answer in {script}; if not, delete or translate the rows"
        )
        yield Finding("language-mix", "warning" if few else "note", rows, why, fix)


def _switches(record: DialogueRecord) -> Iterator[Finding]:
    asked = ""
    for message in record.messages:
        if message.role != "assistant":
            asked = f"{asked}\n{message.content}"
            continue
        before, after = main_script(asked), main_script(message.content)
        if (before, after) == ("Han", "Kana") and _may_be_japanese(asked):
            before = after
        if before and after and before != after and not _ASKS.search(asked):
            why = f"asked in {before}, answered in {after}"
            fix = "answer in the language of the question, or delete the row"
            yield Finding("other-language", "warning", (record.id,), why, fix)
            return
        asked = ""


def _may_be_japanese(text: str) -> bool:
    """Whether all its Han are among the 6,355 kanji of JIS X 0208, as few Chinese sentences are.

    >>> _may_be_japanese("東京都庁所在地"), _may_be_japanese("东京在哪里")
    (True, False)
    """
    han = "".join(_RUNS["Han"].findall(text))
    return han.encode("shift_jis", "ignore").decode("shift_jis") == han


def _said(record: DialogueRecord) -> str:
    return "\n".join(each.content for each in record.messages if each.role == "assistant")
