"""The built-in base model is whole and draws, and the tool that makes it keeps its promises."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from tools.avatar_base import corpus, denoiser, evaluate, export, schedule, tokenizer, vae

BASE = Path(__file__).parents[2] / "lorareg" / "builtin" / "avatar"
TABLE = {
    "style": "micah",
    "hair_colour": "red",
    "hair": "long",
    "expression": "neutral",
    "clothes_colour": "blue",
    "clothes": "collared shirt",
    "skin": "tan",
    "eyewear": "glasses",
    "background": "pink",
}


def test_a_full_caption_names_every_attribute_in_the_order_of_the_card() -> None:
    prompt = corpus.caption(TABLE)

    assert prompt == (
        "portrait, red long hair, neutral, blue collared shirt, tan skin, glasses, "
        "micah style, pink background"
    )


@pytest.mark.parametrize(
    ("table", "prompt"),
    [
        ({}, "portrait"),
        ({"hair_colour": "red"}, "portrait, red hair"),
        ({"hair": "long"}, "portrait, long hair"),
        ({"hair_colour": "green", "headwear": "hijab"}, "portrait, green hijab"),
        ({"clothes_colour": "blue"}, "portrait, blue clothes"),
    ],
)
def test_a_caption_without_some_attributes_is_still_a_sentence(
    table: dict[str, str], prompt: str
) -> None:
    assert corpus.caption(table) == prompt


def test_varied_captions_drop_every_attribute_sometimes_and_none_always() -> None:
    captions = [corpus.varied_caption(TABLE, Random(seed)) for seed in range(400)]

    for word in ("red", "long", "blue", "shirt", "tan skin", "glasses", "micah style", "pink"):
        share = np.mean([word in caption for caption in captions])
        assert 0.6 < share < 0.95, word


def test_varied_captions_follow_their_seed() -> None:
    assert corpus.varied_caption(TABLE, Random(3)) == corpus.varied_caption(TABLE, Random(3))


def test_varied_captions_use_the_other_words_of_an_expression() -> None:
    captions = [corpus.varied_caption(TABLE, Random(seed)) for seed in range(100)]

    assert any("serious" in caption for caption in captions)
    assert any("neutral" in caption for caption in captions)


def test_some_captions_carry_a_word_that_means_nothing() -> None:
    captions = [corpus.varied_caption(TABLE, Random(seed), ["abacus"]) for seed in range(400)]

    assert 0.03 < np.mean(["abacus" in caption for caption in captions]) < 0.15


def test_strange_words_are_those_no_caption_uses() -> None:
    assert corpus.strange_words([TABLE], ["red", "abacus", "glasses"]) == ["abacus"]


def test_rendering_draws_on_white() -> None:
    pytest.importorskip("resvg_py")
    half = '<rect width="1" height="2"/>'

    picture = corpus.render(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2">{half}</svg>'
    )

    assert picture.shape == (64, 64, 3)
    assert picture[32, 8].tolist() == [0, 0, 0]
    assert picture[32, 56].tolist() == [255, 255, 255]


def test_portraits_survive_the_disk(tmp_path: Path) -> None:
    portraits = corpus.Portraits(np.zeros((2, 64, 64, 3), np.uint8), (TABLE, {"hair": "bob"}))

    portraits.save(tmp_path / "p.npz")
    again = corpus.Portraits.load(tmp_path / "p.npz")

    assert again.attributes == portraits.attributes
    assert np.array_equal(again.images, portraits.images)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer's folder."""
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [corpus.varied_caption(TABLE, Random(seed)) for seed in range(50)]
    tokenizer.save(*tokenizer.learn(texts, size=600), folder)
    return folder


def test_the_tokenizer_keeps_known_words_whole(words: Path) -> None:
    tokens = tokenizer.load(words)

    pieces = tokens.convert_ids_to_tokens(tokens("red glasses").input_ids)

    assert pieces == [tokenizer.START, "red</w>", "glasses</w>", tokenizer.END]


@pytest.mark.parametrize("word", ["zzhangsan", "sks", "lorelei", "张三", "émile", "x9!"])
def test_the_tokenizer_cuts_unknown_words_into_pieces(words: Path, word: str) -> None:
    for folder in (words, BASE / "tokenizer"):
        tokens = tokenizer.load(folder)

        ids = tokens(word).input_ids[1:-1]

        assert ids
        assert tokens.unk_token_id not in ids
        assert tokens.decode(ids).replace(" ", "") == word


def test_both_forms_of_the_tokenizer_agree(words: Path) -> None:
    vocabulary, merges = tokenizer.read(words)

    built, loaded = tokenizer.build(vocabulary, merges), tokenizer.load(words)

    assert built.get_vocab() == loaded.get_vocab() == vocabulary
    assert built("portrait, zzhangsan").input_ids == loaded("portrait, zzhangsan").input_ids


def test_the_last_noise_step_is_pure_noise_and_still_counts() -> None:
    noising = schedule.noise_schedule()

    weights = schedule.loss_weights(noising)

    assert float(noising.alphas_cumprod[-1]) == 0
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    assert weights.min() > 0


def test_a_resumed_autoencoder_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    sources = np.array(["micah", "micah", "open-peeps", "open-peeps", "noto", "noto"])
    shape = vae.Shape(channels=(8, 8, 8), latent_channels=2, groups=4)
    plan = vae.Plan(steps=3, batch=2, log_every=1)
    straight, first, second = (vae.Trainer(shape, plan) for _ in range(3))

    records = list(vae.train(straight, images, sources, tmp_path / "a", tmp_path / "log"))
    first.step(images, vae.sampling_weights(sources))
    first.save(tmp_path / "b")
    second.resume(tmp_path / "b")
    list(vae.train(second, images, sources, tmp_path / "b", tmp_path / "log"))

    assert [record["step"] for record in records] == [1, 2, 3]
    assert same(straight, second)


def test_a_resumed_denoiser_equals_an_uninterrupted_one(tmp_path: Path, words: Path) -> None:
    shape = denoiser.Shape((8, 8, 8), 4, latent_channels=2, latent_side=8, text_width=16)
    plan = denoiser.Plan(steps=3, batch=2, log_every=1)
    latents = torch.randn((5, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    data = denoiser.Data(latents, lambda index, random: corpus.varied_caption(TABLE, random))
    tokens = tokenizer.load(words)
    straight, first, second = (denoiser.Trainer(shape, plan, tokens) for _ in range(3))

    list(denoiser.train(straight, data, tmp_path / "a", tmp_path / "log"))
    next(denoiser.train(first, data, tmp_path / "b", tmp_path / "log"))
    first.save(tmp_path / "b")
    second.resume(tmp_path / "b")
    list(denoiser.train(second, data, tmp_path / "b", tmp_path / "log"))

    assert second.progress.step == 3
    assert same(straight, second)


def same(one: vae.Trainer | denoiser.Trainer, other: vae.Trainer | denoiser.Trainer) -> bool:
    """Whether two trainers hold equal weights and averages."""
    weights = all(torch.equal(w, other.parameters[name]) for name, w in one.parameters.items())
    return weights and all(torch.equal(w, other.average[name]) for name, w in one.average.items())


def test_every_portrait_is_seen_once_an_epoch() -> None:
    plan = denoiser.Plan(batch=4)

    seen = np.concatenate([denoiser.picks(step, 10, plan) for step in range(5)])

    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))


def test_a_confusion_table_counts_what_was_asked_against_what_was_read() -> None:
    table = evaluate.confusion([0, 0, 1, evaluate.UNKNOWN], [0, 1, 1, 0], ("red", "blue"))

    assert table.counts.tolist() == [[1, 1], [0, 1]]
    assert table.accuracy == pytest.approx(2 / 3)
    assert table.table().splitlines()[2] == "| red | 1 | 1 |"


def test_labels_leave_out_what_a_question_does_not_know() -> None:
    answers = evaluate.labels([TABLE, {"style": "adventurer", "expression": "tongue out"}])

    assert answers["hair_colour"].tolist() == [3, evaluate.UNKNOWN]
    assert answers["eyewear"].tolist() == [1, 0]
    assert answers["expression"].tolist() == [3, evaluate.UNKNOWN]


def test_the_classifier_learns_to_read_a_colour() -> None:
    names = corpus.BACKGROUNDS[:2]
    images = np.zeros((40, 64, 64, 3), np.uint8)
    images[::2] = 255
    tables = [{"background": names[index % 2]} for index in range(40)]

    model = evaluate.fit(images, tables, steps=12)

    assert evaluate.judge(model, images, tables)["background"].accuracy == 1


def test_the_packaged_base_is_what_its_checksums_say() -> None:
    recorded = json.loads((BASE / export.CHECKSUMS).read_text("utf-8"))

    assert export.checksums(BASE) == recorded


def test_the_packaged_base_is_small_and_holds_nothing_else() -> None:
    files = {path.relative_to(BASE).as_posix() for path in BASE.rglob("*") if path.is_file()}

    assert sum((BASE / name).stat().st_size for name in files) < 32e6
    assert {name.split("/")[0] for name in files} == {
        *("README.md", "checksums.json", "grid.png", "model_index.json"),
        *("scheduler", "text_encoder", "tokenizer", "unet", "vae"),
    }


def test_the_packaged_base_loads_plainly_and_draws() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(BASE)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        "portrait, red hair, micah style, blue background",
        num_inference_steps=6,
        guidance_scale=2.5,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images[0]

    assert made.shape == (64, 64, 3)
    assert np.isfinite(made).all()
    corner = made[2, 2]
    assert corner[2] > 0.7 > corner[0], "the background is blue"
