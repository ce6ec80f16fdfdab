"""Every way captions can be wrong is found, named and explained; good ones are left alone."""

from __future__ import annotations

import json
import subprocess
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
from lorareg.trainers.data.caption_marks import Marks
from lorareg.trainers.data.check.caption_tags import contradiction, twice
from lorareg.trainers.data.check.caption_text import leftover, placeholder
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
    rows = [json.dumps({"file_name": name, "text": f"a {name}"}) for name in PICTURES]
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
    rows = [json.dumps({"file_name": name, "text": f"a {name[:4]}"}) for name in PICTURES]
    captions = ["a img1", "a img2", "a img3", "another"]
    write(tmp_path, {"metadata.csv": table(captions), "metadata.jsonl": "\n".join(rows)})
    write(tmp_path, {"img1.txt": " a img1\n", "img2.txt": "old"})

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
        ("1girl, black hair, blonde hair", "'black hair' and 'blonde hair'"),
        ("黑发，金色头发，蓝眼睛", "'黑发' and '金色头发'"),
        ("white background, dark blue_background", "'white background' and 'dark blue background'"),
        ("hat, smiling, no hat", "'hat' and 'no hat'"),
        ("眼镜，没有眼镜", "'眼镜' and '没有眼镜'"),
        ("silver hair, white hair, light brown hair of a wig", ""),
        ("black hair, red hair, two-tone hair", ""),
        ("blue eyes, green eyes, heterochromia", ""),
        ("2girls, black hair, blonde hair, hat, no hat", ""),
        ("red flower, blue flower, no hat", ""),
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
        ("a\u2028cat\x07 and\u2029a\x07", "U+2028, U+0007, U+2029"),
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


@pytest.mark.parametrize(
    ("name", "caption", "what"),
    [
        ("a.png", "TODO", "'TODO'"),
        ("a.png", " None.", "'None.'"),
        ("a.png", "nan", "'nan'"),
        ("sub/IMG_01.png", "img_01", "the name of the file"),
        ("img1.png", "img1.png", "the name of the file"),
        ("red dragon.png", "red dragon", ""),
        ("小猫.png", "小猫", ""),
        ("a.png", "a list of todo items", ""),
        ("a.png", "none of them smiles", ""),
    ],
)
def test_what_stands_in_for_a_caption_is_told_from_one(name: str, caption: str, what: str) -> None:
    assert placeholder(name, caption) == what


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("1girl, smiling, blue_eyes, Smiling, (blue eyes:1.2)", "'smiling', 'blue eyes'"),
        ("微笑，微笑", "'微笑'"),
        ("very, very good", ""),
        ("2girls, smiling, smiling", ""),
        ("a cat on a cat", ""),
    ],
)
def test_a_tag_that_stands_twice_is_named(caption: str, tags: str) -> None:
    assert twice(caption) == tags


def test_notes_and_warnings_of_a_caption_itself(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": table(["null", "a dog, a dog", "one\r\ntwo\nthree", "fine"])})

    found = check(tmp_path, PICTURES)

    assert summed(found) == [
        ("caption-leftover", "warning", ("img1.png",)),
        ("caption-repeats", "note", ("img2.png",)),
        ("caption-lines", "note", ("img3.png",)),
    ]
    assert "has 3 lines" in found.findings[2].why


def test_text_files_without_a_picture_are_named_where_captions_are_text_files(
    tmp_path: Path,
) -> None:
    write(tmp_path, {f"img{n}.txt": f"a cat {n}" for n in range(1, 5)})
    astray = ["ghost.txt", "IMG2.TXT", "README.txt", "LICENSE-MIT.txt", "sub/NOTICE.txt"]
    files = [*(f"img{n}.txt" for n in range(6)), *astray]

    beside = check(tmp_path, PICTURES, skip=["img0.png"], text_files=files)
    write(tmp_path, {"metadata.csv": "".join(f"{name},a cat {name}\n" for name in PICTURES)})
    tabled = check(tmp_path, PICTURES, captions="metadata.csv", text_files=files)

    assert [(f.severity, f.files, f.why) for f in beside.findings] == [
        ("warning", ("IMG2.TXT",), "a caption file without a picture; there is img2.png"),
        ("warning", ("ghost.txt",), "a caption file without a picture"),
        ("warning", ("img5.txt",), "a caption file without a picture"),
    ]
    assert {f.code for f in beside.findings} == {"caption-astray"}
    assert "caption-astray" not in {f.code for f in tabled.findings}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_chinese_text_file_in_utf_16_without_a_mark_is_converted_by_its_command(
    tmp_path: Path, encoding: str
) -> None:
    caption = "小猫在睡觉，白色背景"
    write(tmp_path, {"img1.txt": caption.encode(encoding)})

    finding = only(check(tmp_path, ["img1.png"]))
    subprocess.run(finding.fix.removeprefix("convert it: "), shell=True, check=True, cwd=tmp_path)

    assert (finding.code, finding.severity) == ("caption-encoding", "error")
    assert check(tmp_path, ["img1.png"]).captions == {"img1.png": caption}


@pytest.mark.parametrize("header", ["文件名,描述", "图片,标注", "图像,提示词", "文件,标签"])
def test_chinese_names_of_columns_are_known(tmp_path: Path, header: str) -> None:
    write(tmp_path, {"metadata.csv": f"{header}\n{table(['一', '二', '三', '四'])}"})

    found = check(tmp_path, PICTURES)

    assert summed(found) == []
    assert found.captions["img2.png"] == "二"


def test_a_header_in_words_that_are_not_known_is_called_one(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": f"bild,beschreibung\n{table(['a', 'b', 'c', 'd'])}"})

    finding = only(check(tmp_path, PICTURES))

    assert (finding.code, finding.files) == ("caption-line", ("metadata.csv:1",))
    assert finding.why == "this line looks like a header; call the columns file_name,text"
    assert "file_name,text" in finding.fix


def test_a_first_name_that_lacks_its_ending_like_all_others_is_no_header(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": "img1,a\nimg2,b\nimg3,c\nimg4,d\n"})

    codes = {f.code for f in check(tmp_path, PICTURES).findings}

    assert codes == {"caption-astray", "caption-missing"}


def test_a_caption_too_long_for_the_reader_is_said_in_words(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": f"img1.png,a\nimg2.png,{'x' * 131_073}\n"})

    finding = next(f for f in check(tmp_path, PICTURES).findings if f.code == "caption-line")

    assert finding.why == "a caption longer than 131,072 characters; is a quote missing?"
    assert finding.files == ("metadata.csv:2",)


def test_captions_of_a_machine_that_nobody_reviewed_are_counted(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": table(["a cat", "a dog", "a fox", "edited"])})
    marks = Marks().mark("img1.png", "a cat", "blip").mark("img2.png", "a dog", "blip")
    marks = marks.mark("img3.png", "a fox", "blip").reviewed("img3.png", "a fox")
    marks.mark("img4.png", "a bird", "blip").save(tmp_path)

    finding = only(check(tmp_path, PICTURES))

    assert (finding.code, finding.severity, finding.files) == ("unreviewed", "note", ())
    assert finding.why.startswith("2 captions written by a machine")
    assert finding.fix == "lorareg data caption DATASET --review"


def test_broken_marks_are_a_warning(tmp_path: Path) -> None:
    write(tmp_path, {"metadata.csv": table(["a", "b", "c", "d"]), "captions.json": "{"})

    finding = only(check(tmp_path, PICTURES))

    assert (finding.code, finding.severity) == ("caption-marks", "warning")
    assert "captions.json is not JSON" in finding.why


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
