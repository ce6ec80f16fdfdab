"""Models that write: the real classes and the real loading, on models made in a moment."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from lorareg.errors import ExternalToolError, InvalidFileError, LoraregError, NotFoundError
from lorareg.trainers.data.label import models
from lorareg.trainers.data.label.captioner import Asking
from lorareg.trainers.data.label.chat import QUESTION
from tests.registry.test_hub import COMMIT, MODEL, Double, client, talk_to  # noqa: F401
from tests.trainers import tiny_captioners as tiny
from tests.trainers.captioning import captions_of, run_caption

MAKERS: dict[str, Callable[[Path], Path]] = {
    "blip": tiny.make_blip,
    "blip2": tiny.make_blip2,
    "florence2": tiny.make_florence,
    "qwen2-vl": tiny.make_qwen2,
    "qwen3-vl": tiny.make_qwen3,
    "llava": tiny.make_llava,
}
TOKENS = 10


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model, made once."""
    home = tmp_path_factory.mktemp("models")
    for name, make in MAKERS.items():
        make(home / name)
    return home


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Of different sizes, as pictures are."""
    return [
        tiny.picture(colour, shape, side=48 + 16 * number)
        for number, (colour, shape) in enumerate(
            zip(tiny.COLOURS.values(), tiny.SHAPES, strict=True)
        )
    ]


@pytest.fixture
def folder(tmp_path: Path, images: list[Image.Image]) -> Path:
    (tmp_path / "set").mkdir()
    for number, image in enumerate(images):
        image.save(tmp_path / "set" / f"{number}.png")
    return tmp_path / "set"


def says(model: Path, images: list[Image.Image], **asking: object) -> list[str]:
    options = Asking(**{"max_tokens": TOKENS, **asking})  # type: ignore[arg-type]
    return models.load(models.locate(str(model)), options).caption(images)


@pytest.mark.parametrize("name", MAKERS)
def test_a_model_says_something_of_each_picture(
    home: Path, folder: Path, images: list[Image.Image], name: str
) -> None:
    answer = run_caption(folder, "--model", home / name, "--max-tokens", TOKENS, "--json")

    captions = captions_of(folder)
    assert answer.json["labelled"] == 3, answer.err
    assert answer.json["by"].startswith(f"{name}@sha256:")
    assert len(set(captions.values())) > 1
    assert list(captions.values()) == [" ".join(text.split()) for text in says(home / name, images)]


@pytest.mark.parametrize("name", MAKERS)
def test_a_picture_gets_the_same_text_alone_and_among_others(
    home: Path, images: list[Image.Image], name: str
) -> None:
    together = says(home / name, images)

    assert [says(home / name, [image])[0] for image in images] == together


@pytest.mark.parametrize("name", MAKERS)
def test_pictures_of_odd_sizes_are_read(home: Path, name: str) -> None:
    odd = [Image.new("RGB", size, "red") for size in ((1, 1), (2, 600), (900, 3))]

    assert len(says(home / name, odd)) == 3


def test_blip_says_what_transformers_own_example_says(
    home: Path, images: list[Image.Image]
) -> None:
    processor = transformers.BlipProcessor.from_pretrained(home / "blip")
    model = transformers.BlipForConditionalGeneration.from_pretrained(home / "blip")
    for words in (None, "a photo of"):
        ids = model.generate(
            **processor(images[1], words, return_tensors="pt"),
            max_new_tokens=TOKENS, do_sample=False,
        )  # fmt: skip
        expected = processor.decode(ids[0], skip_special_tokens=True)

        (found,) = says(home / "blip", [images[1]], prompt=words)

        assert f"{words or ''} {found}".strip() == expected


def test_florence_says_what_transformers_own_example_says(
    home: Path, images: list[Image.Image]
) -> None:
    task = "<MORE_DETAILED_CAPTION>"
    processor = transformers.Florence2Processor.from_pretrained(home / "florence2")
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(home / "florence2")
    expected = []
    for image in images:
        inputs = processor(text=task, images=image, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False, num_beams=1)
        text = processor.batch_decode(ids, skip_special_tokens=False)[0].replace("<pad>", "")
        expected.append(processor.post_process_generation(text, task=task)[task])

    found = says(home / "florence2", images, prompt=task)

    assert found == [" ".join(text.replace("\ufffd", " ").split()) for text in expected]


def test_qwen_is_asked_in_the_words_of_its_template(home: Path, images: list[Image.Image]) -> None:
    folder = home / "qwen2-vl"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pixels = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    seen = pixels(images=[images[0]], return_tensors="pt")
    pads = "<|image_pad|>" * int(seen["image_grid_thw"].prod() // 4)
    asked = tokenizer(
        f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>{QUESTION}<|im_end|>\n"
        "<|im_start|>assistant\n",
        return_tensors="pt",
    )
    kinds = (asked["input_ids"] == 5).int()
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(folder)
    ids = model.generate(
        **asked, **seen, mm_token_type_ids=kinds, max_new_tokens=TOKENS, do_sample=False
    )
    answer = tokenizer.decode(ids[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)

    (found,) = says(folder, [images[0]])

    assert pads
    assert answer.startswith(found[:6])
    assert found


def test_a_text_is_cut_at_so_many_tokens(home: Path, images: list[Image.Image]) -> None:
    (short,) = says(home / "blip", [images[0]], max_tokens=3)
    (long,) = says(home / "blip", [images[0]], max_tokens=9)

    assert len(short.split()) <= 3
    assert long.startswith(short)


def test_florence_takes_tasks_only(home: Path) -> None:
    with pytest.raises(LoraregError, match="cannot be asked 'what is this'"):
        says(home / "florence2", [], prompt="what is this")


def test_weights_that_can_run_code_are_refused(home: Path, folder: Path, tmp_path: Path) -> None:
    pickled = tiny.make_blip(tmp_path / "pickled")
    weights = load_file(pickled / "model.safetensors")
    torch.save(weights, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()

    answer = run_caption(folder, "--model", pickled)
    single = run_caption(folder, "--model", pickled / "pytorch_model.bin")

    assert (answer.code, single.code) == (2, 2)
    assert "has no .safetensors weights" in answer.err
    assert "can run code" in single.err
    assert not (folder / "metadata.csv").exists()


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    lacking = tiny.make_blip(tmp_path / "lacking")
    weights = load_file(lacking / "model.safetensors")
    lost = next(name for name in weights if name.startswith("vision_model.encoder"))
    del weights[lost]
    save_file(weights, lacking / "model.safetensors", {"format": "pt"})

    with pytest.raises(InvalidFileError) as refusal:
        says(lacking, [])

    assert lost in refusal.value.why


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    broken = tiny.make_blip(tmp_path / "broken")
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[:5000])

    with pytest.raises(InvalidFileError, match="its weights cannot be loaded"):
        says(broken, [])


def test_code_of_a_model_is_not_run(tmp_path: Path) -> None:
    own = tiny.make_blip(tmp_path / "own")
    config = json.loads((own / "config.json").read_text())
    config["model_type"] = "own_model"
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForImageTextToText": "code.Model"}
    (own / "config.json").write_text(json.dumps(config))
    (own / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")

    with pytest.raises(InvalidFileError):
        says(own, [])

    assert not (tmp_path / "ran").exists()


def test_a_model_that_cannot_be_asked_is_refused(home: Path, tmp_path: Path) -> None:
    mute = tiny.make_qwen2(tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()

    with pytest.raises(InvalidFileError, match="cannot be asked about a picture"):
        says(mute, [])


@pytest.mark.parametrize("files", [{}, {"config.json": "{}", "model.safetensors": "x"}])
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "odd").mkdir()
    for name, text in files.items():
        (tmp_path / "odd" / name).write_text(text)

    with pytest.raises(InvalidFileError):
        models.locate(str(tmp_path / "odd"))


def test_a_name_that_is_no_model_is_refused() -> None:
    with pytest.raises(NotFoundError, match="there is no model './nowhere'"):
        models.locate("./nowhere")


@pytest.mark.usefixtures("client")
def test_a_model_of_the_hub_that_cannot_be_reached_says_how_to_bring_it() -> None:
    with pytest.raises(ExternalToolError) as refusal:
        models.locate("Qwen/Qwen3-VL-2B-Instruct")

    assert "hf download Qwen/Qwen3-VL-2B-Instruct --local-dir Qwen3-VL-2B" in refusal.value.fix
    assert "--model Qwen3-VL-2B-Instruct" in refusal.value.fix


@pytest.fixture
def hub(client: pytest.MonkeyPatch, home: Path) -> Iterator[Double]:  # noqa: F811
    """A Hub with the tiny BLIP on it."""
    server = Double({path.name: path.read_bytes() for path in (home / "blip").iterdir()})
    talk_to(client, server.url)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_of_the_hub_is_pinned_and_named_by_its_commit(
    hub: Double, folder: Path, home: Path
) -> None:
    answer = run_caption(folder, "--model", MODEL, "--max-tokens", TOKENS, "--json")

    assert answer.json["by"].startswith(f"{MODEL}@{COMMIT} #")
    assert "model.safetensors" in hub.served


def test_a_model_pinned_by_commit_needs_no_network_once_it_is_here(
    hub: Double,
    client: pytest.MonkeyPatch,  # noqa: F811
) -> None:
    fetched = models.locate(MODEL)
    talk_to(client, "http://127.0.0.1:9")

    assert models.locate(f"{MODEL}@{COMMIT}") == fetched
