"""The 500 planted lines of ``benchmarks.redaction``, made from phrasings and drawn values."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorareg.trainers.data.redact.span import Span

PHRASINGS = Path(__file__).parent / "redaction_phrasings.txt"
LINES = 125  # for each of two languages and two halves: 500
SECTION = re.compile(r"\[(en|zh) (tuning|held out)\]")
SLOT = re.compile(r"\{(\w+(?: \w+)*)\}")

NAMES = {
    ("en", "tuning"): """John Carter;Mary Ellen Walsh;Priya Raghunathan;Mohammed Al-Farsi;
        Jean-Luc Moreau;Siobhan O'Connor;David Kim;Wei Zhang;Fatima Khan;Robert J. Hughes;
        Grace Miller;Will Thompson;Elena Petrova;Carlos Mendoza;Aisha Bello;Tom Baker;
        Hannah Schmidt;Yuki Tanaka;Rose Martin;Anthony Russo;Jennifer;Michael;Olga;
        Sven Lindqvist;Chinedu Okafor""",
    ("en", "held out"): """Susan Porter;James Whitfield;Anjali Deshpande;Omar Haddad;
        Marie-Claire Dubois;Niamh Gallagher;Steven Park;Li Na Chen;Zainab Yusuf;Linda K. Brooks;
        Hope Richardson;Mark Stone;Dmitri Volkov;Lucia Fernandez;Kwame Mensah;April Cooper;
        Ingrid Hansen;Kenji Watanabe;Frank Young;Giulia Romano;Patricia;Daniel;Svetlana;
        Bjorn Eriksen;Thandiwe Dlamini""",
    (
        "zh",
        "tuning",
    ): """张伟;王秀英;李娜;刘洋;陈晓东;杨丽华;赵子轩;黄志强;周杰;吴雨桐;徐海燕;孙国庆;
        马文博;朱建军;胡佳怡;欧阳雪;司马文静;林志玲;高原;安康;常乐;方圆;白雪;苗苗苗;温家瑞""",
    ("zh", "held out"): """王芳;李秀兰;张敏;刘静怡;陈建华;杨帆;赵敏;黄晓明;周星宇;吴倩;徐若曦;
        孙浩然;马丽;朱梓涵;胡歌;诸葛亮亮;上官云飞;何润东;高兴国;明朗;金鑫;路遥;于是之;贺子珍;覃小燕""",
}
MONTHS = "January February March April May June July August September October November December"


@dataclass(frozen=True)
class Line:
    """A planted line.

    Attributes:
        spans: where its personal data is, by kind.
    """

    language: str
    half: str
    text: str
    spans: tuple[Span, ...]


def lines() -> list[Line]:
    """The 500 planted lines, the same every time."""
    phrasings: dict[tuple[str, str], list[str]] = {}
    for row in PHRASINGS.read_text(encoding="utf-8").splitlines():
        if section := SECTION.fullmatch(row):
            current = phrasings.setdefault((section[1], section[2]), [])
        elif row and not row.startswith("#"):
            current.append(row.replace("\\n", "\n"))
    made = []
    for (language, half), known in phrasings.items():
        draw = random.Random(f"{language} {half}")
        values = Values(draw, language, half)
        for number in range(LINES):
            made.append(_filled(known[number % len(known)], values, language, half))
    return made


def _filled(phrasing: str, values: Values, language: str, half: str) -> Line:
    text, spans = "", []
    for index, part in enumerate(SLOT.split(phrasing)):
        filled = values.one(part) if index % 2 else part
        kind = part.partition(" ")[0]
        if index % 2 and kind.isupper():
            spans.append(Span(len(text), len(text) + len(filled), kind))
        text += filled
    return Line(language, half, text, tuple(spans))


class Values:
    """Draws what goes into a slot."""

    def __init__(self, draw: random.Random, language: str, half: str) -> None:
        self._draw = draw
        self._zh = language == "zh"
        self._names = [name.strip() for name in NAMES[language, half].split(";")]
        self._makers: dict[str, Callable[[], str]] = {
            "NAME": lambda: draw.choice(self._names),
            "PHONE": self._phone, "EMAIL": self._email, "ADDRESS": self._address,
            "BIRTHDATE": self._date, "date": self._date, "MEDICAL_RECORD": self._record,
            "NATIONAL_ID": self._resident if self._zh else self._ssn, "badid": self._bad_resident,
            "BANK_CARD": self._card, "IBAN": self._iban, "PASSPORT": self._passport,
            "PLATE": lambda: draw.choice("京沪粤苏浙川鄂湘") + draw.choice("ABCDE")
            + draw.choice(["", "·"]) + self._some("ABCDEFGHJKLMN0123456789", 4) + self._digits(1),
            "ACCOUNT": lambda: draw.choice(["wx_", "sunny-", "lee"]) + self._digits(5),
            "ACCOUNT qq": lambda: str(draw.randint(1, 9)) + self._digits(8),
            "CREDIT_CODE": self._credit_code, "IP": self._ip, "URL": self._url,
            "order": lambda: draw.choice(["", "SF", "PO-"]) + "20" + self._digits(14),
            "version": lambda: f"v{self._digits(1)}.{draw.randint(10, 99)}.{draw.randint(0, 20)}",
            "price": lambda: f"{'$¥'[self._zh]}{draw.randint(1, 9999):,}.{self._digits(2)}",
            "number": lambda: str(draw.randint(2, 99999)),
            "time": lambda: f"{draw.randint(1, 12)}:{draw.randint(10, 59)}",
            "isbn": lambda: f"978-{draw.randint(1, 9)}-{self._digits(5)}-{self._digits(3)}-0",
            "product": lambda: f"{self._some('ABXKT', 2)}-{self._digits(4)}{self._some('ABC', 1)}",
        }  # fmt: skip

    def one(self, slot: str) -> str:
        """A value for a slot."""
        return self._makers[slot]()

    def _digits(self, count: int) -> str:
        return self._some("0123456789", count)

    def _some(self, letters: str, count: int) -> str:
        return "".join(self._draw.choice(letters) for _ in range(count))

    def _phone(self) -> str:
        d, n = self._digits, self._draw.randint
        if self._zh:
            mobile = f"1{n(3, 9)}{d(1)}"
            return self._draw.choice(
                [f"{mobile}{d(8)}", f"{mobile} {d(4)} {d(4)}", f"+86 {mobile}{d(8)}",
                 f"{mobile}-{d(4)}-{d(4)}", f"010-{n(6, 8)}{d(7)}", f"0755-{n(2, 8)}{d(7)}"]
            )  # fmt: skip
        us, mid = f"{n(2, 9)}0{n(1, 9)}", f"{n(2, 9)}{d(2)}"
        return self._draw.choice(
            [f"({us}) {mid}-{d(4)}", f"{us}-{mid}-{d(4)}", f"+1 {us} {mid} {d(4)}",
             f"{us}.{mid}.{d(4)}", f"+44 20 7{d(3)} {d(4)}", f"+49 30 {n(1, 9)}{d(7)}"]
        )  # fmt: skip

    def _email(self) -> str:
        who = self._draw.choice(["jane.doe", "k_miller", "zhang.wei", "info+sales", "a1b2", "tom"])
        host = self._draw.choice(
            ["example.com", "mail.example.org", "corp.example.co.uk", "qq.com"]
        )
        return f"{who}{self._draw.randint(1, 99)}@{host}"

    def _address(self) -> str:
        n = self._draw.randint
        if self._zh:
            city = self._draw.choice(["北京市海淀区", "广东省深圳市南山区", "上海市浦东新区",
                                      "浙江省杭州市西湖区", "四川省成都市武侯区"])  # fmt: skip
            road = self._draw.choice(
                ["中关村大街", "科技南路", "张江路", "文三西路", "人民南路四段"]
            )
            tail = self._draw.choice(
                [f"{n(1, 20)}号楼{n(1, 9)}单元{n(101, 999)}室", "", f"{n(2, 30)}栋"]
            )
            return f"{city}{road}{n(1, 300)}号{tail}"
        street = self._draw.choice(["Baker Street", "Oak Avenue", "Elm St.", "Sunset Blvd",
                                    "North Lake Road", "Maple Drive"])  # fmt: skip
        tail = self._draw.choice(["", f", Apt {n(1, 99)}", ", Springfield, IL 62704",
                                  ", Portland, OR 97205"])  # fmt: skip
        return f"{n(1, 9900)} {street}{tail}"

    def _date(self) -> str:
        year, month, day = (self._draw.randint(*span) for span in ((1940, 2004), (1, 12), (1, 28)))
        if self._zh:
            return self._draw.choice(
                [
                    f"{year}年{month}月{day}日",
                    f"{year}-{month:02}-{day:02}",
                    f"{year}.{month}.{day}",
                ]
            )
        name = MONTHS.split()[month - 1]
        return self._draw.choice(
            [f"{name} {day}, {year}", f"{month:02}/{day:02}/{year}", f"{year}-{month:02}-{day:02}",
             f"{day} {name} {year}"]
        )  # fmt: skip

    def _record(self) -> str:
        return self._draw.choice(["", "H", "ZY"] if self._zh else ["", "A", "MR-"]) + self._digits(
            7
        )

    def _ssn(self) -> str:
        n = self._draw.randint
        return f"{n(100, 665):03}-{n(10, 99)}-{n(1000, 9999)}"

    def _resident(self) -> str:
        n = self._draw.randint
        area = self._draw.choice(["110105", "440305", "310115", "330106", "510107"])
        body = f"{area}{n(1940, 2004)}{n(1, 12):02}{n(1, 28):02}{self._digits(3)}"
        return body + _mod_11_2(body)

    def _bad_resident(self) -> str:
        good = self._resident()
        return good[:-1] + self._draw.choice([c for c in "0123456789" if c != good[-1]])

    def _card(self) -> str:
        body = self._draw.choice(["622202", "621700"] if self._zh else ["4111", "5424"])
        body += self._digits((18 if self._zh else 15) - len(body))
        return self._draw.choice([str, _in_fours])(body + _luhn(body))

    def _iban(self) -> str:
        body = f"DE00{self._digits(18)}"
        check = 98 - int("".join(str(int(c, 36)) for c in body[4:] + body[:4])) % 97
        return self._draw.choice([str, _in_fours])(f"DE{check:02}{body[4:]}")

    def _passport(self) -> str:
        return self._draw.choice("EG" if self._zh else "CX") + self._digits(8)

    def _credit_code(self) -> str:
        letters = "0123456789ABCDEFGHJKLMNPQRTUWXY"
        body = "91110108" + self._some(letters, 9)
        total = sum(letters.index(c) * pow(3, i, 31) for i, c in enumerate(body))
        return body + letters[(31 - total) % 31]

    def _ip(self) -> str:
        n = self._draw.randint
        four = f"{n(11, 220)}.{n(0, 255)}.{n(0, 255)}.{n(1, 254)}"
        return self._draw.choice([four, f"2001:db8::{n(1, 9999):x}:{n(1, 9999):x}"])

    def _url(self) -> str:
        path = self._draw.choice(["u/jane?id=7", "album/2024", "~tom/", "p/1#top"])
        return f"{self._draw.choice(['https://', 'http://', 'www.'])}photos.example.com/{path}"


def _in_fours(number: str) -> str:
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4))


def _luhn(body: str) -> str:
    """The digit that makes ``body`` a valid card number."""
    doubled = [int(d) * (2 - i % 2) for i, d in enumerate(reversed(body))]
    return str(-sum(d - 9 if d > 9 else d for d in doubled) % 10)


def _mod_11_2(body: str) -> str:
    """The check digit of a Chinese resident number."""
    total = sum(int(d) * pow(2, 17 - i, 11) for i, d in enumerate(body))
    return "10X98765432"[total % 11]
