"""Every way captions can be wrong is found, named and explained; good ones are left alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.dataset import IMAGES
from lorareg.trainers.data import caption_files
from lorareg.trainers.data.caption_files import read_captions, read_table
from lorareg.trainers.data.check.caption_text import contradiction, leftover
from lorareg.trainers.data.check.captions import CaptionCheck, check
from lorareg.trainers.data.check.findings import Finding

TOP = Path(__file__).parents[2]
PICTURES = [f"img{number}.png" for number in range(1, 5)]


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def table(captions: Sequence[str]) -> str:
    rows = zip(PICTURES, captions, strict=False)
    return "".join(f'{name},"{caption}"\n' for name, caption in rows)


def only(found: CaptionCheck) -> Finding:
    (finding,) = found.findings
    return finding


def summed(found: CaptionCheck) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(f.code, f.severity, f.files) for f in found.findings]


@pytest.mark.parametrize("name", ["mira", "zhangsan", "lorelei-ink", "emoji-line"])
def test_the_sample_datasets_give_no_finding(name: str) -> None:
    (manifest,) = TOP.glob(f"manifests/*/{name}/manifest.yaml")
    document = yamlfile.load(manifest)
    dataset = document["dataset"]
    folder = TOP / dataset["path"]
    if not folder.is_dir():
        pytest.skip("the dataset is not pulled")
    images = [path.name for path in folder.iterdir() if path.suffix in IMAGES]

    found = check(folder, images, captions=dataset["captions"], trigger=document["trigger"])

    assert summed(found) == []
    assert len(found.captions) == len(images) > 40


def test_missing_empty_and_lost_captions_are_named_by_picture(tmp_path: Path) -> None:
    text = (
        'img1.png,"a cat"\nimg2.png,"  "\nghost.png,boo\nIMG3.PNG,x\nsub/img4.jpg,y\nimg0.png,z\n'
    )
    write(tmp_path, {"metadata.csv": text})

    found = check(tmp_path, PICTURES, skip=["img0.png"])

    assert summed(found) == [
        ("caption-empty", "error", ("img2.png",)),
        ("caption-missing", "error", ("img3.png",)),
        ("caption-missing", "error", ("img4.png",)),
        ("caption-astray", "error", ("IMG3.PNG",)),
        ("caption-astray", "error", ("ghost.png",)),
        ("caption-astray", "error", ("sub/img4.jpg",)),
    ]
    whys = [f.why for f in found.findings if f.code == "caption-astray"]
    assert whys[0].endswith("there is img3.png")
    assert whys[1].endswith("not there")
    assert found.captions == {"img1.png": "a cat"}


def test_a_folder_without_captions_is_one_error(tmp_path: Path) -> None:
    finding = only(check(tmp_path, PICTURES))

    assert (finding.code, finding.severity, finding.files) == ("caption-missing", "error", ())
    assert "no metadata.csv, no metadata.jsonl and no .txt file" in finding.why
    assert "lorareg data caption" in finding.fix


@pytest.mark.parametrize(
    ("encoding", "spoken", "iconv"),
    [
        ("gb18030", "GBK", "iconv -f GB18030"),
        ("cp1252", "Windows-1252", "iconv -f WINDOWS-1252"),
        ("utf-16", "UTF-16", "iconv -f UTF-16"),
        ("utf-16-le", "UTF-16 without a byte-order mark", "iconv -f UTF-16LE"),
        ("utf-16-be", "UTF-16 without a byte-order mark", "iconv -f UTF-16BE"),
    ],
)
def test_another_encoding_is_recognised_with_how_to_convert_it(
    tmp_path: Path, encoding: str, spoken: str, iconv: str
) -> None:
    text = table(["it\u2019s a caf\u00e9"] * 4 if encoding == "cp1252" else ["a small cat"] * 4)
    text = text.replace("small", "黑色的") if encoding == "gb18030" else text
    write(tmp_path, {"metadata.csv": text.encode(encoding)})

    finding = only(check(tmp_path, PICTURES))

    assert (finding.code, finding.severity) == ("caption-encoding", "error")
    assert spoken in finding.why
    assert iconv in finding.fix


def test_each_sidecar_in_another_encoding_is_named_and_the_others_are_checked(
    tmp_path: Path,
) -> None:
    files: dict[str, str | bytes] = {f"img{n}.txt": f"word, cat {n}" for n in (1, 2, 3)}
    write(tmp_path, files | {"img2.txt": "一只黑色的小狗".encode("gbk"), "img4.txt": b"a\0b"})

    found = check(tmp_path, PICTURES, trigger="word")

    assert summed(found) == [
        ("caption-encoding", "error", ("img2.txt",)),
        ("caption-encoding", "error", ("img4.txt",)),
    ]
    assert set(found.captions) == {"img1.png", "img3.png"}


def test_a_byte_order_mark_is_a_note(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": "\ufeff" + table("abcd")})

    finding = only(check(tmp_path, PICTURES))

    assert (finding.code, finding.severity) == ("byte-order-mark", "note")


@pytest.mark.parametrize(("separator", "spoken"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_spreadsheets_own_separator_is_explained_and_the_rest_is_checked(
    tmp_path: Path, separator: str, spoken: str
) -> None:
    rows = [separator.join((name, f"word, a, b {name}")) for name in PICTURES[:3]]
    write(tmp_path, {"metadata.csv": "\n".join([*rows, f"img4.png{separator}cat"])})

    found = check(tmp_path, PICTURES, trigger="word")

    assert summed(found) == [
        ("caption-file", "error", ("metadata.csv",)),
        ("trigger-missing", "warning", ("img4.png",)),
    ]
    assert spoken in found.findings[0].why
    assert "python3 -c" in found.findings[0].fix


def test_bad_lines_are_errors_and_their_pictures_are_not_also_missing(tmp_path: Path) -> None:
    text = 'img1.png,a, b\nimg2.png,"a "big" cat"\nimg3.png,nul\0\nimg4.png,one\nimg4.png,two\n'
    write(tmp_path, {"metadata.csv": text})

    found = check(tmp_path, PICTURES)

    assert summed(found) == [
        ("caption-line", "error", (f"metadata.csv:{n}",)) for n in (1, 2, 3, 5)
    ]
    assert "columns; put the caption in double quotes" in found.findings[0].why
    assert "NUL" in found.findings[2].why


def test_a_quote_that_is_never_closed_is_named_where_it_opens(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": 'img1.png,a\nimg2.png,"b\nimg3.png,c\nimg4.png,d\n'})

    finding = only(check(tmp_path, PICTURES))

    assert finding.files == ("metadata.csv:2",)
    assert "never closed; nothing from here to line 4 is read" in finding.why


def test_a_bad_jsonl_line_is_the_only_thing_said_of_its_picture(tmp_path: Path) -> None:
    rows = [json.dumps({"file_name": name, "text": name}) for name in PICTURES]
    rows[1] = rows[1][:-1]
    rows[2] = '{"file_name": "img3.png", "text": "\\ud83d"}'
    write(tmp_path, {"metadata.jsonl": "\n".join(rows)})

    found = check(tmp_path, PICTURES)

    assert [f.files for f in found.findings if f.code == "caption-line"] == [
        ("metadata.jsonl:2",),
        ("metadata.jsonl:3",),
    ]
    assert [f.code for f in found.findings if f.code != "caption-line"] == []


def test_two_caption_files_that_differ_are_named_with_the_one_that_counts(tmp_path: Path) -> None:
    rows = [json.dumps({"file_name": name, "text": name[:4]}) for name in PICTURES]
    captions = ["img1", "img2", "img3", "another"]
    write(tmp_path, {"metadata.csv": table(captions), "metadata.jsonl": "\n".join(rows)})
    write(tmp_path, {"img1.txt": " img1\n", "img2.txt": "old"})

    found = check(tmp_path, PICTURES)
    chosen = check(tmp_path, PICTURES, captions="metadata.csv")

    assert summed(found) == [
        ("captions-twice", "warning", ("img4.png",)),
        ("captions-twice", "warning", ("img2.png",)),
    ]
    assert "training reads metadata.csv" in found.findings[0].why
    assert {f.severity for f in chosen.findings} == {"note"}


def test_a_caption_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caption_files, "MAX_CAPTION_FILE", 20)
    write(tmp_path, {"metadata.csv": table("abcd")})

    finding = only(check(tmp_path, PICTURES))

    assert finding.code == "caption-file"
    assert "too large" in finding.why


@pytest.mark.parametrize(
    ("trigger", "captions", "without"),
    [
        ("zhang", ["Zhang, x", "zhangs", "a ZHANG's hat", "zhang_x"], ["img2.png"]),
        ("张三", ["张三在实验室", "一个人", "画着张三", "张 三"], ["img2.png"]),
        ("lorelei style", ["x, lorelei style", "lorelei-style", "lorelei, style", "lorelei style"],
         ["img3.png"]),
        ("✨", ["a ✨", "b", "✨", "✨x"], ["img2.png"]),
    ],
)  # fmt: skip
def test_a_trigger_is_looked_for_as_a_whole_word(
    tmp_path: Path, trigger: str, captions: list[str], without: list[str]
) -> None:
    write(tmp_path, {"metadata.csv": table(captions)})

    found = check(tmp_path, PICTURES, trigger=trigger).findings

    assert [name for f in found if f.code == "trigger-missing" for name in f.files] == without


def test_a_trigger_that_no_caption_has_is_one_warning(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": table("abcd")})

    finding = only(check(tmp_path, PICTURES, trigger="zhang"))

    assert (finding.code, finding.severity, finding.files) == ("trigger-missing", "warning", ())


def test_captions_of_the_trigger_alone_are_a_note_and_equal_ones_a_warning(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": table(["zhang", "Zhang.", "zhang, smiling", "zhang, sad"])})
    some = check(tmp_path, PICTURES, trigger="zhang")
    write(tmp_path, {"metadata.csv": table(["zhang"] * 4)})
    every = check(tmp_path, PICTURES, trigger="zhang")

    assert summed(some) == [("trigger-alone", "note", ("img1.png", "img2.png"))]
    assert summed(every) == [("captions-equal", "warning", ())]


@pytest.mark.parametrize(
    ("caption", "clash"),
    [
        ("1girl, long hair, smiling, short_hair", "'long hair' and 'short hair'"),
        ("room, (day:1.2), indoors, night", "'day' and 'night'"),
        ("白天，室内，夜晚", "'白天' and '夜晚'"),
        ("室内、室外", "'室内' and '室外'"),
        ("solo, 1girl, 1boy", "'solo' and '1girl' and '1boy'"),
        ("closed eyes, open eyes, bald, 长发",
         "'closed eyes' and 'open eyes'; 'bald' and '长发'"),
        ("2girls, long hair, short hair", ""),
        ("two women, long hair, short hair, sitting, standing", ""),
        ("a night lamp by day, in the night", ""),
        ("smiling, sad", ""),
        ("day", ""),
        ("night sky, day dress, long hairpin, short haircut", ""),
        ("一盏夜晚的灯，白天的窗", ""),
    ],
)  # fmt: skip
def test_tags_clash_only_as_whole_tags_of_one_picture(caption: str, clash: str) -> None:
    said = contradiction(caption)

    assert sorted(said.split("; ")) == sorted(clash.split("; "))


@pytest.mark.parametrize(
    ("caption", "sign"),
    [
        ("arafed image of a cat", "'arafed'"),
        ("a picture of a a cat", "'a a'"),
        ("a cat and a cat and a cat and a cat", "3 times 'a cat and'"),
        ("小猫小狗小猫小狗小猫小狗", "3 times '小 猫 小 狗'"),
        ("a cat<br>and", "'<br>'"),
        ("a cat &amp; a dog", "'&amp;'"),
        ("see https://example.com/x", "'https://example.com/x'"),
        ("a cat <|endoftext|>", "'<|endoftext|>'"),
        ("a cat <lora:ink:0.8>", "'<lora:ink:0.8>'"),
        ("a cat\x07", "U+0007"),
        ("zhang\u200bsan", "U+200B"),
        ("caf\ufffd", "U+FFFD"),
        (
            "张三".encode().decode("latin-1").replace("\x89", "‰"),
            "UTF-8 read as Windows-1252: '张三'",
        ),
        ("小猫, black".encode("gbk").decode(), "GBK that is valid UTF-8 by chance: '小猫'"),
        ("As an AI language model, I see", "'As an AI language model'"),
        ("café Zürich, naïve", ""),
        ("café·é, Москва, שלום, αβγ", ""),
        ("a cat, a dog, a cat", ""),
        ("very, very, very good, ha ha ha", ""),
        ("哈哈哈哈哈哈", ""),
        ("<zhangsan>, 3 < 4 & 5 > 2, [x]", ""),
        ("type A, a man in the sun", ""),
        ("a family emoji 👨‍👩‍👧, one\ntwo", ""),
    ],
)
def test_leftovers_of_machines_are_told_from_what_people_write(caption: str, sign: str) -> None:
    assert leftover(caption) == sign


def test_findings_of_texts_name_their_pictures(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": table(["day, night", "arafed cat", "fine", "good"])})

    found = check(tmp_path, PICTURES)

    assert summed(found) == [
        ("caption-contradiction", "warning", ("img1.png",)),
        ("caption-leftover", "warning", ("img2.png",)),
    ]


BYTES = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(str.encode),
    st.lists(
        st.sampled_from([b"img1.png", b",", b'"', b"\n", b"\r", b";", b"\t", b"cat", b"\0",
                         b"\xef\xbb\xbf", b"\xff\xfe", "猫".encode(), "猫".encode("gbk"), b"{",
                         b'{"file_name": "img1.png", "text": "x"}', b"file_name,text\n", b"\\ud800",
                         b'"text":', b'"file_name":', b"/", b"..", b" ", b"NaN"]),
        max_size=20,
    ).map(b"".join),
)  # fmt: skip


@pytest.mark.parametrize("form", ["metadata.csv", "metadata.jsonl", "img1.txt"])
@given(data=BYTES)
def test_no_bytes_crash_and_training_refuses_what_the_check_calls_an_error(
    tmp_path_factory: pytest.TempPathFactory, form: str, data: bytes
) -> None:
    folder = write(tmp_path_factory.mktemp("fuzz", numbered=True), {form: data})

    found = check(folder, ["img1.png"], trigger="cat")
    codes = {f.code for f in found.findings if f.severity == "error"}
    refused = False
    try:
        captions = read_captions(folder, ["img1.png"], None)
    except LoraregError:
        refused = True

    assert refused == bool(codes & {"caption-file", "caption-line", "caption-encoding"})
    if not refused:
        assert captions == read_table(folder, ["img1.png"], None).captions
