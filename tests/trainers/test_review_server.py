"""The review page's server: what it writes, and whom it keeps out. Spoken to over HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry.manifest import ImageManifest, parse
from lorareg.trainers.data import caption_table
from lorareg.trainers.data.caption_files import read_captions
from lorareg.trainers.data.caption_marks import FILE, Marks
from lorareg.trainers.data.review.server import MAX_BODY, ReviewServer
from lorareg.trainers.data.review.state import Review, Summary
from lorareg.trainers.data.target import Target

MODEL = "Salesforce/blip-image-captioning-base@82a3776"
CAPTIONS = {
    "a.png": "a happy cat, masterpiece",
    "b.jpg": "a dog on a sofa",
    "图.webp": "一只狗，柔光",
}
VOCABULARY = """\
schema: lorareg/vocabulary/1
groups:
  mood: {terms: [smiling, sad], at_least: 1}
  光线: {terms: [柔光, 荧光灯]}
aliases: {happy: smiling}
banned: [masterpiece]
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three pictures: two with captions of a machine, one with a person's."""
    folder = tmp_path / "cats"
    folder.mkdir()
    for name in CAPTIONS:
        Image.new("RGB", (8, 8), "red").save(folder / name)
    caption_table.update(folder, CAPTIONS, None)
    marks = Marks()
    for name in ("a.png", "图.webp"):
        marks = marks.mark(name, CAPTIONS[name], MODEL)
    marks.save(folder)
    (folder / "vocabulary.yaml").write_text(VOCABULARY, encoding="utf-8")
    (folder.parent / "secret.png").write_bytes(b"secret")
    return folder


@pytest.fixture
def server(dataset: Path) -> Iterator[ReviewServer]:
    with ReviewServer(Review.open(Target(dataset, "cats"))) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(
    server: ReviewServer,
    path: str,
    body: object = None,
    *,
    method: str = "",
    headers: Mapping[str, str | None] | None = None,
) -> tuple[http.client.HTTPResponse, bytes]:
    """Send one request; ``path`` stands after the token unless it begins with /."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    here = f"127.0.0.1:{server.server_port}"
    sent: dict[str, str | None] = {"Host": here}
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent |= {"Content-Type": "application/json", "Origin": f"http://{here}"}
        sent["Content-Length"] = str(len(data))
    sent |= headers or {}
    where = path if path.startswith("/") else f"/{server.token}/{path}"
    connection.putrequest(
        method or ("GET" if body is None else "POST"), where, skip_host=True,
        skip_accept_encoding=True,
    )  # fmt: skip
    for name, value in sent.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(data)
    response = connection.getresponse()
    found = response.read()
    connection.close()
    return response, found


def answer(server: ReviewServer, path: str, body: object = None) -> Any:
    response, found = ask(server, path, body)
    assert response.status == 200, found
    return json.loads(found)


def accept(server: ReviewServer, picture: int, caption: str, seen: str) -> Any:
    return answer(server, "accept", {"picture": picture, "caption": caption, "seen": seen})


def captions(folder: Path) -> dict[str, str]:
    return read_captions(folder, list(CAPTIONS), None)


def test_the_overview_names_every_picture_its_state_and_the_vocabulary(
    server: ReviewServer,
) -> None:
    assert answer(server, "pictures") == {
        "dataset": "cats",
        "groups": [
            {"name": "mood", "required": True, "terms": ["smiling", "sad"]},
            {"name": "光线", "required": False, "terms": ["柔光", "荧光灯"]},
        ],
        "pictures": [
            {"name": "a.png", "status": "machine", "problems": 2},
            {"name": "b.jpg", "status": "hand", "problems": 1},
            {"name": "图.webp", "status": "machine", "problems": 1},
        ],
    }


def test_a_caption_comes_with_its_problems_and_how_to_mend_them(server: ReviewServer) -> None:
    found = answer(server, "item/0")

    assert found["by"] == MODEL
    assert found["look"] == {
        "problems": [
            {
                "what": "happy is an alias",
                "mend": {"does": "use smiling", "caption": "a smiling cat, masterpiece"},
            },
            {
                "what": "masterpiece is banned",
                "mend": {"does": "remove it", "caption": "a happy cat"},
            },
        ],
        "used": ["smiling"],
        "missing": [],
    }


@pytest.mark.parametrize(
    ("caption", "mended"),
    [
        ("masterpiece, a sad cat", "a sad cat"),
        ("a sad, masterpiece, cat", "a sad, cat"),
        ("a sad masterpiece cat", "a sad cat"),
        ("a sad cat masterpiece", "a sad cat"),
        ("sad，masterpiece，柔光", "sad，柔光"),
        ("sad，masterpiece", "sad"),
        ("sad; masterpiece", "sad;"),
    ],
)
def test_a_banned_word_leaves_no_comma_behind(
    server: ReviewServer, caption: str, mended: str
) -> None:
    found = answer(server, "look", {"caption": caption})

    assert [problem["mend"]["caption"] for problem in found["problems"]] == [mended]


@pytest.mark.parametrize(
    ("number", "kind"), [(0, "image/png"), (1, "image/jpeg"), (2, "image/webp")]
)
def test_a_picture_is_sent_as_it_is_on_disk(
    server: ReviewServer, dataset: Path, number: int, kind: str
) -> None:
    response, data = ask(server, f"picture/{number}")

    assert data == (dataset / list(CAPTIONS)[number]).read_bytes()
    assert response.headers["Content-Type"] == kind
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"


def test_accepting_marks_the_caption_and_leaves_the_table_alone(
    server: ReviewServer, dataset: Path
) -> None:
    before = (dataset / "metadata.csv").read_bytes()

    found = accept(server, 2, CAPTIONS["图.webp"], CAPTIONS["图.webp"])

    marks = Marks.load(dataset)
    assert found["status"] == "reviewed"
    assert marks.is_reviewed("图.webp", CAPTIONS["图.webp"])
    assert marks.is_machine("图.webp", CAPTIONS["图.webp"])
    assert (dataset / "metadata.csv").read_bytes() == before


def test_an_edited_caption_is_on_disk_before_the_answer_and_is_a_persons(
    server: ReviewServer, dataset: Path
) -> None:
    accept(server, 0, '  猫, "微笑"\n🐈 ', CAPTIONS["a.png"])

    assert captions(dataset) == CAPTIONS | {"a.png": '猫, "微笑"\n🐈'}
    marks = Marks.load(dataset)
    assert marks.is_reviewed("a.png", '猫, "微笑"\n🐈')
    assert not marks.is_machine("a.png", '猫, "微笑"\n🐈')


def test_undo_brings_text_and_mark_back_one_step_at_a_time(
    server: ReviewServer, dataset: Path
) -> None:
    table, marks = (dataset / "metadata.csv").read_bytes(), (dataset / FILE).read_bytes()
    accept(server, 0, "one", CAPTIONS["a.png"])
    accept(server, 0, "two", "one")
    accept(server, 1, CAPTIONS["b.jpg"], CAPTIONS["b.jpg"])

    undone = [answer(server, "undo", {}) for _ in range(4)]

    assert [(i["picture"], i["caption"], i["status"]) for i in undone[:3]] == [
        (1, CAPTIONS["b.jpg"], "hand"),
        (0, "one", "reviewed"),
        (0, CAPTIONS["a.png"], "machine"),
    ]
    assert undone[3] is None
    assert (dataset / "metadata.csv").read_bytes() == table
    assert (dataset / FILE).read_bytes() == marks


def test_a_caption_that_an_editor_changed_meanwhile_is_not_overwritten(
    server: ReviewServer, dataset: Path
) -> None:
    caption_table.update(dataset, {"a.png": "by an editor"}, None)

    response, found = ask(
        server, "accept", {"picture": 0, "caption": "mine", "seen": CAPTIONS["a.png"]}
    )

    assert response.status == 409
    assert json.loads(found)["error"]["caption"] == "by an editor"
    assert captions(dataset)["a.png"] == "by an editor"
    assert accept(server, 0, "mine", "by an editor")["caption"] == "mine"


def test_undo_does_not_overwrite_what_an_editor_changed_since(
    server: ReviewServer, dataset: Path
) -> None:
    accept(server, 0, "mine", CAPTIONS["a.png"])
    caption_table.update(dataset, {"a.png": "by an editor"}, None)

    response, _ = ask(server, "undo", {})

    assert response.status == 409
    assert captions(dataset)["a.png"] == "by an editor"


def test_an_empty_caption_is_refused_with_a_reason(server: ReviewServer, dataset: Path) -> None:
    response, found = ask(
        server, "accept", {"picture": 0, "caption": " \n", "seen": CAPTIONS["a.png"]}
    )

    assert response.status == 422
    assert "empty" in json.loads(found)["error"]["what"]
    assert captions(dataset) == CAPTIONS


def test_a_folder_that_vanished_is_named_and_the_server_lives_on(
    server: ReviewServer, dataset: Path
) -> None:
    dataset.rename(dataset.with_name("elsewhere"))
    body = {"picture": 0, "caption": "mine", "seen": ""}

    response, found = ask(server, "accept", body)
    dataset.with_name("elsewhere").rename(dataset)

    assert response.status == 500
    assert "cats" in json.loads(found)["error"]["what"]
    assert accept(server, 0, "mine", CAPTIONS["a.png"])["status"] == "reviewed"


def test_captions_accepted_at_once_are_all_kept(server: ReviewServer, dataset: Path) -> None:
    wanted = {name: f"caption of {name}" for name in CAPTIONS}

    with ThreadPoolExecutor(3) as pool:
        list(
            pool.map(
                lambda n: accept(server, n[0], wanted[n[1]], CAPTIONS[n[1]]), enumerate(CAPTIONS)
            )
        )

    marks = Marks.load(dataset)
    assert captions(dataset) == wanted
    assert all(marks.is_reviewed(name, caption) for name, caption in wanted.items())


def test_of_two_tabs_that_change_one_caption_one_is_told(server: ReviewServer) -> None:
    def send(caption: str) -> int:
        body = {"picture": 0, "caption": caption, "seen": CAPTIONS["a.png"]}
        return ask(server, "accept", body)[0].status

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(send, ["one", "two", "three", "four"]))

    assert statuses == [200, 409, 409, 409]


def test_the_summary_counts_pictures_and_forgets_what_was_undone(dataset: Path) -> None:
    review = Review.open(Target(dataset, "cats"))
    review.accept(0, "one", CAPTIONS["a.png"])
    review.accept(0, "two", "one")
    review.accept(1, CAPTIONS["b.jpg"], CAPTIONS["b.jpg"])
    review.accept(2, "three", CAPTIONS["图.webp"])
    review.undo()

    assert review.summary() == Summary(reviewed=2, edited=1, left=1)


# Who is kept out


def refused(found: bytes) -> bool:
    return set(json.loads(found)) == {"error"}


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/pictures", "/favicon.ico", "/%00/", "//"])
def test_an_address_without_the_token_says_nothing(server: ReviewServer, path: str) -> None:
    response, found = ask(server, path)

    assert response.status == 403
    assert refused(found)


def test_a_write_needs_the_token_too(server: ReviewServer, dataset: Path) -> None:
    body = {"picture": 0, "caption": "mine", "seen": CAPTIONS["a.png"]}

    assert ask(server, "/wrong/accept", body)[0].status == 403
    assert captions(dataset) == CAPTIONS


def test_the_address_for_the_browsers_command_line_works_once(server: ReviewServer) -> None:
    once = server.once.partition(str(server.server_port))[2]

    first, _ = ask(server, once)
    second, _ = ask(server, once)

    assert (first.status, first.headers["Location"]) == (303, server.url)
    assert second.status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1:1@evil.example", "", None]
)
def test_another_host_name_is_refused_against_dns_rebinding(
    server: ReviewServer, host: str | None
) -> None:
    assert ask(server, "pictures", headers={"Host": host})[0].status == 403


def test_another_port_of_this_host_is_an_ssh_tunnel(server: ReviewServer) -> None:
    assert ask(server, "pictures", headers={"Host": "localhost:9000"})[0].status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", None]
)
def test_another_page_cannot_write(server: ReviewServer, dataset: Path, origin: str | None) -> None:
    body = {"picture": 0, "caption": "mine", "seen": CAPTIONS["a.png"]}

    response, found = ask(server, "accept", body, headers={"Origin": origin})

    assert response.status == 403
    assert refused(found)
    assert captions(dataset) == CAPTIONS


def test_a_form_of_another_page_cannot_pass_for_json(server: ReviewServer) -> None:
    response, _ = ask(server, "undo", b"{}", headers={"Content-Type": "text/plain"})

    assert response.status == 415


@pytest.mark.parametrize(
    "path",
    [
        "picture/..%2f..%2fsecret.png", "picture/../../secret.png", "picture/a.png", "picture/",
        "picture/-1", "picture/0/", "picture/0?x", "picture/%30", "picture/9999999999", "item/x",
        "metadata.csv", "captions.json", "look", "accept",
    ],
)  # fmt: skip
def test_only_numbers_of_the_listing_lead_to_pictures(server: ReviewServer, path: str) -> None:
    response, found = ask(server, path)

    assert response.status == 404
    assert refused(found)


@pytest.mark.parametrize("path", ["picture/3", "item/3"])
def test_a_number_behind_the_last_picture_is_an_error(server: ReviewServer, path: str) -> None:
    response, found = ask(server, path)

    assert response.status == 422
    assert "no picture 3" in json.loads(found)["error"]["what"]


def test_a_picture_that_became_a_link_out_of_the_folder_is_not_sent(
    server: ReviewServer, dataset: Path
) -> None:
    (dataset / "a.png").unlink()
    (dataset / "a.png").symlink_to(dataset.parent / "secret.png")

    response, found = ask(server, "picture/0")

    assert response.status == 422
    assert b"secret" not in found


def test_a_picture_that_was_deleted_is_named_gone(server: ReviewServer, dataset: Path) -> None:
    (dataset / "a.png").unlink()

    assert ask(server, "picture/0")[0].status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"picture": 0}', b"\xff\xfe", b'{"picture": NaN}',
        b'{"picture": 0, "caption": "x", "seen": "\\ud800"}',
        b'{"picture": "0", "caption": "x", "seen": ""}',
        b'{"picture": -1, "caption": "x", "seen": ""}',
        b'{"picture": true, "caption": "x", "seen": ""}',
        b'{"picture": 0, "caption": "x", "seen": "", "more": 1}',
        b'{"picture": 0, "caption": "x", "caption": "y", "seen": ""}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_body_that_is_not_what_was_expected_is_refused(
    server: ReviewServer, dataset: Path, body: bytes
) -> None:
    response, found = ask(server, "accept", body)

    assert response.status == 400
    assert refused(found)
    assert captions(dataset) == CAPTIONS


def test_a_huge_body_is_refused_before_it_is_read(server: ReviewServer) -> None:
    response, _ = ask(server, "accept", b"x", headers={"Content-Length": str(MAX_BODY + 1)})

    assert response.status == 413


@pytest.mark.parametrize("length", [None, "-1", "many", "+1", "٣"])
def test_a_body_without_a_length_is_refused(server: ReviewServer, length: str | None) -> None:
    sent = {"Content-Length": length.encode().decode("latin-1") if length else None}

    assert ask(server, "accept", b"{}", headers=sent)[0].status == 411


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD"])
def test_no_other_method_is_known(server: ReviewServer, method: str) -> None:
    assert ask(server, "pictures", method=method)[0].status == 501


def test_noise_and_a_client_that_hangs_up_do_no_harm(server: ReviewServer) -> None:
    for noise in (
        b"\x16\x03\x01\x00",
        b"GET\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as connection:
            connection.sendall(noise)

    assert ask(server, "pictures")[0].status == 200


def test_it_listens_on_this_machine_only(server: ReviewServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_the_page_may_load_nothing_but_its_own_parts(server: ReviewServer) -> None:
    response, page = ask(server, "")
    policy = dict(
        rule.partition(" ")[::2] for rule in response.headers["Content-Security-Policy"].split("; ")
    )

    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["script-src"].startswith("'sha256-")
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert b"https://" not in page


# What is named before anything is served


def manifest(**dataset: object) -> ImageManifest:
    document = {
        "schema": "lorareg/1",
        "kind": "character",
        "name": "mimi",
        "task": "text-to-image",
        "base": {"model": "builtin:avatar"},
        "trigger": "mmimi",
        "dataset": {"path": "data/cats", **dataset},
        "owners": ["alice"],
    }
    found = parse(document, "manifest.yaml")
    assert isinstance(found, ImageManifest)
    return found


def test_a_manifest_gives_the_trigger_the_skipped_and_the_vocabulary(dataset: Path) -> None:
    (dataset / "vocabulary.yaml").rename(dataset / "words.yaml")
    wanted = manifest(skip=["b.jpg"], vocabulary="words.yaml")

    review = Review.open(Target(dataset, "cats", wanted))

    assert [picture["name"] for picture in review.overview()["pictures"]] == ["a.png", "图.webp"]
    assert review.look("a sad cat")["problems"] == [
        {
            "what": "the trigger word mmimi is missing",
            "mend": {"does": "begin with mmimi", "caption": "mmimi, a sad cat"},
        }
    ]


def test_a_manifest_that_keeps_captions_in_text_files_is_refused_first(dataset: Path) -> None:
    with pytest.raises(LoraregError, match="cannot be written"):
        Review.open(Target(dataset, "cats", manifest(captions="txt")))


def test_a_dataset_without_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")

    for path in (tmp_path, tmp_path / "rows.jsonl"):
        with pytest.raises(NotFoundError, match="no picture to review"):
            Review.open(Target(path, path.name))


@pytest.mark.parametrize("name", [FILE, "vocabulary.yaml", "metadata.csv"])
def test_a_broken_file_is_named_before_the_page_opens(dataset: Path, name: str) -> None:
    (dataset / name).write_text('{"broken', encoding="utf-8")

    with pytest.raises(InvalidFileError, match=name):
        Review.open(Target(dataset, "cats"))


def test_captions_in_text_files_are_reviewed_and_move_into_a_table(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"caption {name}\n", encoding="utf-8")
    review = Review.open(Target(tmp_path, "cats"))

    review.accept(1, "mine", "caption b")

    assert read_captions(tmp_path, [], None) == {"a.png": "caption a", "b.png": "mine"}
    assert [p["status"] for p in review.overview()["pictures"]] == ["hand", "reviewed"]


def test_a_taken_port_is_named(server: ReviewServer, dataset: Path) -> None:
    with pytest.raises(LoraregError, match=f"port {server.server_port}"):
        ReviewServer(server.review, server.server_port)
