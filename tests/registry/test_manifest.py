from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry import manifest, yamlfile
from lorareg.registry.fields import is_hub_id
from lorareg.registry.ids import AssetId
from lorareg.registry.manifest import ImageManifest, TextManifest

SCHEMA_FILE = Path(__file__).parents[2] / "docs/manifest.schema.json"
NAME = "manifests/character/zhangsan/manifest.yaml"

FULL = """\
schema: lorareg/1
kind: character
name: zhangsan
title: {zh: 张三, en: Zhang San}
description: a man with a red hat
task: text-to-image
base: {model: stable-diffusion-v1-5/stable-diffusion-v1-5, revision: 451f4fe16113bff5a5d2269ed5ad43b0592e9a14}
trigger: zzhangsan
weight: {default: 0.8, range: [0.6, 1.0]}
dataset:
  path: data/char_zhangsan
  captions: metadata.csv
  skip: [broken.png]
  sources:
    - {title: A set, author: Someone, url: "https://example.org", license: CC0-1.0, changes: cropped}
lora: {rank: 16, alpha: 32, dropout: 0.0, targets: attention, text_encoder: false}
train: {resolution: 512, batch_size: 4, gradient_accumulation_steps: 1, epochs: 15, learning_rate: 1.5e-4,
        optimizer: adamw, scheduler: cosine, warmup_steps: 0, precision: auto, seed: 42, save_steps: 100,
        validation: {share: 0.1, patience: 5}}
sample: {prompts: ["zzhangsan in a futuristic city"], every_steps: 200}
owners: [alice, group:characters]
visibility: team                            # private | team | public
license: {id: CC-BY-4.0}
scope: {commercial: none, derivatives: true, merge: true, credit: true, expires: 2027-12-31}
consent: {subject: 张三, record: contracts/2026-014, covers: [image]}    # a real person's likeness
"""  # noqa: E501

LEAST = {
    "schema": "lorareg/1", "kind": "tone", "name": "pirate", "task": "text-generation",
    "base": {"model": "builtin:smollm2"}, "dataset": {"path": "data/tone_pirate"},
}  # fmt: skip


@pytest.fixture
def document() -> dict[str, Any]:
    return yamlfile.parse(FULL, Path(NAME))


def changed(document: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """A copy with one value set, by dotted key; list items by number."""
    copied = copy.deepcopy(document)
    *parents, last = (int(part) if part.isdigit() else part for part in dotted.split("."))
    place: Any = copied
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else place[parent]
    place[last] = value
    return copied


def problems(document: dict[str, Any]) -> str:
    with pytest.raises(InvalidFileError, match=NAME) as caught:
        manifest.parse(document, NAME)
    return caught.value.what + caught.value.why


def test_the_full_example_is_read(document: dict[str, Any]) -> None:
    found = manifest.parse(document, NAME)

    assert isinstance(found, ImageManifest)
    assert str(found.id) == "character/zhangsan"
    assert found.title == {"zh": "张三", "en": "Zhang San"}
    assert found.train.learning_rate == 1.5e-4
    assert found.lora.scale == 2.0
    assert found.weight.range == (0.6, 1.0)
    assert found.dataset.sources[0].license == "CC0-1.0"
    assert found.scope.expires == datetime.date(2027, 12, 31)


def test_the_shortest_manifest_is_filled_with_defaults() -> None:
    found = manifest.parse(LEAST, NAME)

    assert isinstance(found, TextManifest)
    assert (found.lora.rank, found.lora.alpha, found.train.max_length) == (16, 16.0, 1024)


def test_there_are_keys_of_pictures_and_keys_of_texts() -> None:
    picture = changed(changed(LEAST, "task", "text-to-image"), "train.resolution", 64)

    assert manifest.parse(picture, NAME)
    assert "train.resolution: unknown key" in problems(changed(LEAST, "train.resolution", 64))
    assert "train.max_length: unknown key" in problems(changed(picture, "train.max_length", 64))


@pytest.mark.parametrize(
    ("dotted", "hint"),
    [
        ("triger", "did you mean trigger?"),
        ("schemas", "did you mean schema?"),
        ("visiblity", "did you mean visibility?"),
        ("lora.rnk", "did you mean rank?"),
        ("train.learning-rate", "did you mean learning_rate?"),
        ("train.validation.patients", "did you mean patience?"),
        ("base.modell", "did you mean model?"),
        ("dataset.sources.0.licence", "did you mean license?"),
        ("weight.defualt", "did you mean default?"),
        ("scope.expire", "did you mean expires?"),
        ("rank", "it belongs under lora"),
        ("epochs", "it belongs under train"),
        ("train.alpha", "it belongs under lora"),
        ("lora.xyzzy", "known keys: alpha, dropout, init, rank, rank_pattern, targets, "),
    ],
)
def test_an_unknown_key_is_refused_with_a_hint(
    document: dict[str, Any], dotted: str, hint: str
) -> None:
    assert f"{dotted}: unknown key; {hint}" in problems(changed(document, dotted, 1))


def blocks(model: type[BaseModel], path: str = "") -> list[tuple[str, list[str]]]:
    """Every block of a manifest as (dotted key, names of its fields)."""
    found = [(path, [field.alias or name for name, field in model.model_fields.items()])]
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += blocks(field.annotation, f"{path}{name}.")
    return found


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, names in blocks(ImageManifest) for name in names]
)
def test_a_slip_in_any_key_is_answered_with_the_key(
    document: dict[str, Any], path: str, name: str
) -> None:
    slip = f"{path}{name[:-1]}{name[-1] * 2}"

    assert f"{slip}: unknown key; did you mean {name}?" in problems(changed(document, slip, 1))


@pytest.mark.parametrize(
    ("dotted", "value", "said"),
    [
        ("schema", "lorareg/2", "'lorareg/1'"),
        ("name", "张三", "the title may say 张三"),
        ("name", "a/b", "lower-case"),
        ("name", "a\n", "lower-case"),
        ("name", "a" * 65, "at most 64"),
        ("name", 7, "valid string"),
        ("title", {"ZH!": "x"}, "title.ZH!"),
        ("base.revision", "main", "40 hex digits"),
        ("base.revision", "4" * 39, "40 hex digits"),
        ("base.model", "", "expected builtin:NAME"),
        ("base.model", "a\x00b", "expected builtin:NAME"),
        ("dataset.path", "../data", "'..' may lead out"),
        ("dataset.path", "/data", "absolute path"),
        ("dataset.path", "C:\\data", "absolute path"),
        ("lora.rank", 0, "greater than or equal to 1"),
        ("lora.rank", 1025, "less than or equal to 1024"),
        ("lora.rank", "16", "valid integer"),
        ("lora.rank", 16.0, "valid integer"),
        ("lora.rank", True, "valid integer"),
        ("lora.rank", None, "valid integer"),
        ("lora.rank", [16], "valid integer"),
        ("lora.alpha", 0, "greater than 0"),
        ("lora.alpha", True, "valid number"),
        ("lora.dropout", 1, "less than 1"),
        (
            "lora.targets",
            5,
            "'attention', 'attention+ff', 'all-linear' or 'kohya', or input should be",
        ),
        ("lora.text_encoder", "yes", "valid boolean"),
        ("train.learning_rate", 0, "greater than 0"),
        ("train.learning_rate", "fast", "valid number"),
        ("train.learning_rate", float("inf"), "finite"),
        ("train.learning_rate", float("nan"), "finite"),
        ("train.resolution", 500, "multiple of 8"),
        ("train.epochs", 1.5, "valid integer"),
        ("train.seed", -1, "greater than or equal to 0"),
        ("train.seed", 1 << 63, "less than"),
        ("train.optimizer", "sgd", "'adamw'"),
        ("train.validation.share", 0.9, "less than or equal to 0.5"),
        ("train", [1], "object"),
        ("weight.default", 11, "less than or equal to 10"),
        ("weight.default", 0.5, "default 0.5 is not within range 0.6 to 1"),
        ("weight.range", [1.0, 0.6], "not within range"),
        ("weight.range", [1.0], "weight.range.1: missing"),
        ("sample.prompts", ["x"] * 17, "at most 16"),
        ("owners", ["a b"], "alice, or group:characters"),
        ("visibility", "secret", "'private', 'team' or 'public'"),
        ("scope.expires", "2027-02-30", "valid date"),
        ("scope.expires", 20271231, "valid date"),
        ("scope.derivatives", "no", "valid boolean"),
        ("consent.record", "", "at least 1 character"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(
    document: dict[str, Any], dotted: str, value: Any, said: str
) -> None:
    found = problems(changed(document, dotted, value))

    assert "has 1 problem" in found
    assert dotted.partition(".")[0] in found
    assert said in found


@pytest.mark.parametrize("dotted", ["schema", "kind", "name", "base", "base.model", "dataset.path"])
def test_a_missing_key_is_named(document: dict[str, Any], dotted: str) -> None:
    *parents, last = dotted.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    del place[last]

    assert f"- {dotted}: missing" in problems(document)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".pkl", ".CKPT"])
def test_a_base_that_can_run_code_is_refused_with_the_reason(
    document: dict[str, Any], suffix: str
) -> None:
    found = problems(changed(document, "base.model", f"models/v1-5{suffix}"))

    assert "can run code when they are loaded" in found
    assert ".safetensors" in found


def test_all_problems_are_named_at_once(document: dict[str, Any]) -> None:
    wrong = {
        "schema": "x", "name": "张", "base.model": "a.ckpt", "base.revision": "main",
        "dataset.path": "..", "dataset.sources.0.licence": "x", "lora.rank": 0, "lora.rnk": 1,
        "train.epochs": "1", "train.validation.shere": 1, "owners": ["?"], "rank": 1,
    }  # fmt: skip
    for number in range(20):
        wrong[f"unknown{number}"] = 1
    for dotted, value in wrong.items():
        document = changed(document, dotted, value)

    found = problems(document)

    assert f"has {len(wrong)} problems" in found
    assert all(f"- {dotted.replace('owners', 'owners.0')}: " in found for dotted in wrong)


@pytest.mark.parametrize(
    ("task", "said"),
    [(None, "task is None"), ("image", "task is 'image'"), ([], "task is []")],
)
def test_a_wrong_task_is_refused_with_the_tasks_there_are(task: object, said: str) -> None:
    found = problems({**LEAST, "task": task})

    assert said.replace("task is None", "task is missing") in found
    assert "text-to-image, text-generation" in found


def test_a_misspelt_task_is_recognised() -> None:
    document = {("tasks" if key == "task" else key): value for key, value in LEAST.items()}

    assert "did you mean it by 'tasks'" in problems(document)


@pytest.mark.parametrize(
    "model", ["org/name", "a-b/c.d_e", "openai-community/gpt2", "Qwen/Qwen2.5-0.5B"]
)
def test_a_hub_id_is_told_by_its_form(model: str) -> None:
    assert is_hub_id(model)


@pytest.mark.parametrize(
    "model",
    ["gpt2", "a/b/c", "a/..", "../a", "./a", "/a/b", "a/.b", "a/b.", "a/b--c", "组织/名", "a/"],
)
def test_what_the_hub_would_refuse_is_no_hub_id(model: str) -> None:
    assert not is_hub_id(model)


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("lora.rank", 8), ("lora.alpha", 8), ("lora.dropout", 0.1), ("lora.targets", "all-linear"),
        ("train.epochs", 16), ("train.learning_rate", 1e-4), ("train.seed", 43),
        ("train.resolution", 256), ("train.batch_size", 2), ("train.scheduler", "linear"),
        ("train.caption_dropout", 0.2), ("train.validation.share", 0.2),
        ("train.validation.patience", 6), ("train.precision", "fp32"),
        ("dataset.captions", "metadata.jsonl"), ("dataset.skip", []),
    ],
)  # fmt: skip
def test_the_config_digest_changes_with_what_shapes_the_weights(
    document: dict[str, Any], dotted: str, value: Any
) -> None:
    before = manifest.parse(document, NAME).config_digest()

    assert manifest.parse(changed(document, dotted, value), NAME).config_digest() != before


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("kind", "person"), ("name", "lisi"), ("title", {}), ("description", ""),
        ("trigger", "other"), ("weight", {"default": 1.0}), ("owners", []),
        ("visibility", "public"), ("license", {"id": "MIT"}), ("scope", {}), ("consent", None),
        ("sample", {}), ("train.save_steps", 7), ("dataset.sources", []),
        ("dataset.path", "data/moved"), ("base.model", "builtin:avatar"),
        ("dataset.vocabulary", "words.yaml"), ("dataset.contains_personal_data", True),
        ("dataset.waiver", {"by": "alice", "reason": "her own diary"}),
    ],
)  # fmt: skip
def test_the_config_digest_does_not_change_with_names_terms_and_file_writing(
    document: dict[str, Any], dotted: str, value: Any
) -> None:
    before = manifest.parse(document, NAME).config_digest()

    assert manifest.parse(changed(document, dotted, value), NAME).config_digest() == before


def test_only_an_owner_can_waive(document: dict[str, Any]) -> None:
    waived = changed(document, "dataset.waiver", {"by": "mallory", "reason": "in a hurry"})

    with pytest.raises(InvalidFileError, match=r"mallory is not one of owners"):
        manifest.parse(waived, NAME)


def test_a_default_written_out_is_the_default() -> None:
    short = manifest.parse(LEAST, NAME)
    long = yamlfile.parse(json.dumps(short.model_dump(mode="json", by_alias=True)), Path(NAME))

    assert long["lora"]["alpha"] == 16
    assert manifest.parse(long, NAME) == short
    assert manifest.parse(long, NAME).config_digest() == short.config_digest()
    for alpha in (16, 16.0):
        written = manifest.parse(changed(LEAST, "lora.alpha", alpha), NAME)
        assert written.config_digest() == short.config_digest()


@given(st.permutations(range(3)))
def test_the_order_of_skipped_files_does_not_matter(order: list[int]) -> None:
    names = [f"{number}.png" for number in order]
    found = manifest.parse(changed(LEAST, "dataset.skip", names), NAME)

    assert found.config()["skip"] == ["0.png", "1.png", "2.png"]


def test_a_manifest_is_read_from_its_folder(registry: Path) -> None:
    path = registry / "manifests/character/zhangsan/manifest.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(FULL, encoding="utf-8")

    assert manifest.load(path, AssetId("character", "zhangsan")).trigger == "zzhangsan"


def test_a_manifest_in_the_folder_of_another_asset_is_refused(registry: Path) -> None:
    path = registry / "manifests/character/lisi/manifest.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(FULL, encoding="utf-8")

    with pytest.raises(InvalidFileError, match="says it is character/zhangsan") as caught:
        manifest.load(path, AssetId("character", "lisi"))

    assert "name: lisi" in caught.value.fix


def test_a_missing_manifest_is_named(registry: Path) -> None:
    with pytest.raises(NotFoundError, match=r"manifest\.yaml"):
        manifest.load(registry / "manifests/a/b/manifest.yaml", AssetId("a", "b"))


def test_every_number_has_bounds() -> None:
    def unbounded(schema: Any, path: str) -> list[str]:
        if isinstance(schema, list):
            return [found for part in schema for found in unbounded(part, path)]
        if not isinstance(schema, dict):
            return []
        bounds = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"} & schema.keys()
        here = [path] if schema.get("type") in ("integer", "number") and not bounds else []
        return here + [p for key, v in schema.items() for p in unbounded(v, f"{path}.{key}")]

    assert unbounded(manifest.json_schema(), "") == []


def test_the_committed_json_schema_is_the_manifest_s(
    same_as_file: Callable[[Path, bytes], None],
) -> None:
    text = json.dumps(manifest.json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    same_as_file(SCHEMA_FILE, text.encode())


def test_a_key_that_came_later_changes_no_digest_until_it_is_used(
    document: dict[str, Any],
) -> None:
    plain = manifest.parse(document, "m").config()
    written_out = manifest.parse(changed(document, "train.noise_offset", 0.0), "m").config()
    used = manifest.parse(changed(document, "train.noise_offset", 0.1), "m").config()

    assert "noise_offset" not in plain["train"]
    assert written_out == plain
    assert used["train"]["noise_offset"] == 0.1


def test_keys_that_only_say_when_files_are_written_change_no_digest(
    document: dict[str, Any],
) -> None:
    often = changed(document, "train.save_steps", 7)

    assert manifest.parse(often, "m").config() == manifest.parse(document, "m").config()
