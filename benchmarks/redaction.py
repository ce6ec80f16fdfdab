"""Recall and precision of ``lorareg data redact`` on 500 planted lines, and rows a second.

``python -m benchmarks.redaction [--json]``. The lines are made from the phrasings in
``redaction_phrasings.txt``, with values drawn from a fixed seed. One half of the phrasings, and the
names that go into it, was used to mend the recognisers; the other half ("held out") was written
before them and only ever measured. Both are by the authors of the recognisers: expect less on the
language of strangers.

A planted value counts as found when spans of its kind cover every letter and digit of it; a span
counts as right when at least half of it lies in planted values of its kind.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks.redaction_lines import Line, lines
from lorareg.trainers.data.redact import personal
from lorareg.trainers.data.redact.span import Span

Find = Callable[[str], Sequence[Span]]
Key = tuple[str, str, str]  # half, language, kind


def measure(find: Find, planted: Sequence[Line]) -> dict[str, Counter[Key]]:
    """How many values were planted and found, and how many spans were made and right."""
    tally: dict[str, Counter[Key]] = {w: Counter() for w in ("planted", "found", "made", "right")}
    for line in planted:
        spans = find(line.text)
        for gold in line.spans:
            key = (line.half, line.language, gold.kind)
            tally["planted"][key] += 1
            tally["found"][key] += _covered(gold, spans, line.text) == 1
        for span in spans:
            key = (line.half, line.language, span.kind)
            tally["made"][key] += 1
            tally["right"][key] += _covered(span, line.spans, line.text) >= 0.5
    return tally


def _covered(span: Span, others: Sequence[Span], text: str) -> float:
    """Share of a span's letters and digits that lie in spans of its kind."""
    places = [at for at in range(span.start, span.end) if text[at].isalnum()]
    same = [other for other in others if other.kind == span.kind]
    inside = sum(any(other.start <= at < other.end for other in same) for at in places)
    return inside / max(len(places), 1)


def rates(tally: dict[str, Counter[Key]], wanted: Callable[[Key], bool]) -> dict[str, float]:
    """Recall and precision over some of the keys."""
    planted, found, made, right = (
        sum(count for key, count in tally[what].items() if wanted(key))
        for what in ("planted", "found", "made", "right")
    )
    return {
        "planted": planted,
        "recall": round(found / planted, 3) if planted else 1.0,
        "precision": round(right / made, 3) if made else 1.0,
    }


def table(tally: dict[str, Counter[Key]]) -> dict[str, dict[str, dict[str, float]]]:
    """Half and language -> kind -> rates."""
    keys = {key for counts in tally.values() for key in counts}
    answer: dict[str, dict[str, dict[str, float]]] = {}
    for half, language in sorted({key[:2] for key in keys}, reverse=True):
        here = answer.setdefault(f"{half}, {language}", {})
        for kind in sorted({key[2] for key in keys if key[:2] == (half, language)}):
            here[kind] = rates(tally, lambda key, k=(half, language, kind): key == k)
        here["all"] = rates(tally, lambda key, k=(half, language): key[:2] == k)
    return answer


def main() -> None:
    """Print the table and the speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    wanted = parser.parse_args()
    planted = lines()
    personal.find(planted[0].text)  # the lists are read and the dictionary is built
    start = time.perf_counter()
    tally = measure(personal.find, planted)
    speed = len(planted) / (time.perf_counter() - start)
    found = table(tally)
    if wanted.json:
        print(json.dumps({"rates": found, "lines_per_second": round(speed)}, ensure_ascii=False))
        return
    for group, kinds in found.items():
        print(f"\n{group}\n{'kind':16}{'planted':>8}{'recall':>8}{'precision':>11}")
        for kind, rate in kinds.items():
            print(f"{kind:16}{rate['planted']:8}{rate['recall']:8.3f}{rate['precision']:11.3f}")
    print(f"\n{len(planted)} lines, {speed:.0f} lines a second (one process)")


if __name__ == "__main__":
    main()
