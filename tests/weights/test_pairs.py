"""What both formats share, without torch: nothing is skipped, nothing is guessed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry import tensors
from lorareg.registry.digest import of_file
from lorareg.registry.tensors import RawTensor
from lorareg.weights.adapter import LoraAdapter, to_raw
from lorareg.weights.formats import diffusers, peft

MODULES = {
    "a.to_q": (5, (6,)),
    "a.to_k": (5, (6,)),
    "b.to_q": (4, (3,)),
    "b.conv": (4, (3, 3, 3)),
    "to_q": (5, (6,)),  # the end of other names
}
MIXED = {
    "a.to_q": (2, 4.0), "a.to_k": (2, 4.0), "b.to_q": (3, 1.5), "b.conv": (1, 8.0), "to_q": (5, 1.0)
}  # fmt: skip
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
MakeAdapter = Callable[..., LoraAdapter]


def same(one: LoraAdapter, other: LoraAdapter) -> bool:
    return {
        name: (layer.alpha, layer.down.tolist(), layer.up.tolist())
        for name, layer in one.layers.items()
    } == {
        name: (layer.alpha, layer.down.tolist(), layer.up.tolist())
        for name, layer in other.layers.items()
    }


def factor(*shape: int) -> RawTensor:
    return to_raw(np.ones(shape, np.float32))


def diffusers_file(folder: Path, raw: dict[str, RawTensor], settings: Any = None) -> Path:
    """A file with these tensors and settings; text is taken for the metadata's own."""
    text = settings if isinstance(settings, str) else json.dumps(settings)
    tensors.write(folder / "x.safetensors", raw, {} if settings is None else {
        diffusers.METADATA_KEY: text
    })  # fmt: skip
    return folder / "x.safetensors"


def peft_folder(folder: Path, raw: dict[str, RawTensor], config: Any) -> Path:
    (folder / peft.CONFIG).write_text(json.dumps(config))
    tensors.write(folder / peft.WEIGHTS, raw, {})
    return folder


def pair(prefix: str, down: str, up: str, rank: int = 2) -> dict[str, RawTensor]:
    return {f"{prefix}.{down}.weight": factor(rank, 3), f"{prefix}.{up}.weight": factor(4, rank)}


UNET = pair("unet.a", "lora.down", "lora.up")
LM = pair("base_model.model.a", "lora_A", "lora_B")


@pytest.mark.parametrize("settings", [MIXED, dict.fromkeys(MIXED, (2, 2.0))])
def test_an_adapter_is_read_as_it_was_written(
    tmp_path: Path, make_adapter: MakeAdapter, settings: dict[str, tuple[int, float]]
) -> None:
    image = make_adapter(MODULES, settings)
    text = make_adapter(MODULES, settings, component="")

    diffusers.write(tmp_path / diffusers.FILE, image, {"lorareg.asset": "character/zhangsan"})
    peft.write(tmp_path, text, "org/base", {})

    assert same(diffusers.read(tmp_path / diffusers.FILE), image)
    assert same(peft.read(tmp_path), text)


def test_files_are_equal_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from lorareg.weights.adapter import LoraAdapter, LoraLayer\n"
        "from lorareg.weights.formats import diffusers, peft\n"
        "names = list({f'module{n}' for n in range(30)}); print(names[:3])\n"
        "layers = {n: LoraLayer(np.full((1 + len(n) % 2, 2), 1, 'f4'),\n"
        "    np.full((2, 1 + len(n) % 2), 1, 'f4'), float(len(n))) for n in names}\n"
        "notes = {k: k for k in {f'note{n}' for n in range(9)}}\n"
        "image = LoraAdapter({f'unet.{n}': x for n, x in layers.items()})\n"
        "diffusers.write(Path(sys.argv[1]) / diffusers.FILE, image, notes)\n"
        "peft.write(Path(sys.argv[1]), LoraAdapter(layers), 'org/base', notes)"
    )
    orders, digests = set(), set()
    for seed in ("0", "1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        command = [sys.executable, "-c", code, str(folder)]
        orders.add(subprocess.check_output(command, env=os.environ | {"PYTHONHASHSEED": seed}))
        digests.add(tuple(of_file(path) for path in sorted(folder.iterdir())))

    assert len(orders) > 1, "the processes did not shuffle"
    assert len(digests) == 1


def test_a_file_says_rank_and_alpha_once_and_the_exceptions_by_full_name(
    make_adapter: MakeAdapter,
) -> None:
    settings = diffusers.lora_settings(make_adapter(MODULES, MIXED))

    assert settings["unet.r"] == 2
    assert settings["unet.lora_alpha"] == 4
    assert isinstance(settings["unet.lora_alpha"], int), "some consumers take nothing else"
    assert settings["unet.rank_pattern"] == {"^b.conv": 1, "^b.to_q": 3, "^to_q": 5}
    assert settings["unet.alpha_pattern"] == {"^b.conv": 8, "^b.to_q": 1.5, "^to_q": 1}


def test_a_file_without_settings_has_alpha_equal_to_rank(tmp_path: Path) -> None:
    layer = diffusers.read(diffusers_file(tmp_path, UNET)).layers["unet.a"]

    assert (layer.rank, layer.alpha) == (2, 2.0)


def test_keys_in_the_way_of_peft_are_read_from_a_diffusers_file(tmp_path: Path) -> None:
    found = diffusers.read(diffusers_file(tmp_path, pair("unet.a", "lora_A", "lora_B")))

    assert list(found.layers) == ["unet.a"]


@pytest.mark.parametrize(
    ("patterns", "alpha"),
    [
        ({}, 4.0),
        ({"to_q": 8}, 8.0),
        ({"attn.to_q": 8}, 8.0),
        ({"mid.attn.to_q": 8}, 8.0),
        ({"^mid.attn.to_q": 8}, 8.0),
        ({"^attn.to_q": 8}, 4.0),
        ({"o_q": 8}, 4.0),
        ({"to_k": 8}, 4.0),
        ({"to_q": 8, "mid.attn.to_q": 16}, 8.0),
        ({"mid.attn.to_q": 16, "to_q": 8}, 16.0),
    ],
)
def test_patterns_are_read_as_peft_reads_them(
    tmp_path: Path, patterns: dict[str, float], alpha: float
) -> None:
    raw = pair("base_model.model.mid.attn.to_q", "lora_A", "lora_B")
    folder = peft_folder(tmp_path, raw, CONFIG | {"alpha_pattern": patterns})

    assert peft.read(folder).layers["mid.attn.to_q"].alpha == alpha


def test_settings_that_are_left_out_are_peft_s_own_defaults(tmp_path: Path) -> None:
    raw = pair("base_model.model.a", "lora_A", "lora_B", rank=8)

    assert peft.read(peft_folder(tmp_path, raw, {"peft_type": "LORA"})).layers["a"].scale == 1.0


BAD_TENSORS: dict[str, tuple[dict[str, RawTensor], str]] = {
    "nothing": ({}, "adapts"),
    "an unknown key": ({"P.a.lora_E": factor(2, 2)}, "is not understood"),
    "a bias": ({"P.a.D.bias": factor(2)}, "not understood"),
    "an alpha": ({"P.a.alpha": factor(1)}, "not understood"),
    "an embedding": ({"P.a.lora_embedding_A": factor(2, 3)}, "not understood"),
    "a whole layer": ({"P.lm_head.weight": factor(2, 3)}, "not understood"),
    "no module": ({"P.D.weight": factor(2, 3)}, "not understood"),
    "a down without an up": ({"P.b.D.weight": factor(2, 3)}, "has no partner"),
    "an up without a down": ({"P.b.U.weight": factor(4, 2)}, "has no partner"),
    "another prefix": ({"Q.b.D.weight": factor(2, 3), "Q.b.U.weight": factor(4, 2)}, ""),
    "other ranks": ({"P.b.D.weight": factor(3, 3), "P.b.U.weight": factor(4, 2)}, "module b"),
    "one axis": ({"P.b.D.weight": factor(2), "P.b.U.weight": factor(4, 2)}, "module b"),
    "no axis": ({"P.b.D.weight": factor(), "P.b.U.weight": factor()}, "module b"),
    "rank 0": ({"P.b.D.weight": factor(0, 3), "P.b.U.weight": factor(4, 0)}, "module b"),
    "a convolution beside a matrix": (
        {"P.b.D.weight": factor(2, 3, 3, 3), "P.b.U.weight": factor(4, 2)}, "module b"
    ),
    "a wide up": (
        {"P.b.D.weight": factor(2, 3, 3, 3), "P.b.U.weight": factor(4, 2, 3, 3)}, "module b"
    ),
    "integers": (
        {"P.b.D.weight": RawTensor("I32", (2, 3), bytes(24)), "P.b.U.weight": factor(4, 2)},
        "b, down' is I32",
    ),
    "NaN": (
        {"P.b.D.weight": to_raw(np.full((2, 3), np.nan, np.float32)),
         "P.b.U.weight": factor(4, 2)},
        "NaN",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_tensors_that_are_not_understood_are_refused(tmp_path: Path, case: str) -> None:
    raw, said = BAD_TENSORS[case]

    def spelled(prefix: str, down: str, up: str, good: dict[str, RawTensor]) -> Any:
        keys = {
            key: key.replace("P.", f"{prefix}.")
            .replace(".D.", f".{down}.")
            .replace(".U.", f".{up}.")
            for key in raw
        }
        return (good if raw else {}) | {keys[key]: tensor for key, tensor in raw.items()}

    image = diffusers_file(tmp_path, spelled("unet", "lora.down", "lora.up", UNET))
    text = peft_folder(tmp_path, spelled("base_model.model", "lora_A", "lora_B", LM), CONFIG)

    for read, name in ((lambda: diffusers.read(image), image.name),
                       (lambda: peft.read(text), peft.WEIGHTS)):  # fmt: skip
        with pytest.raises(InvalidFileError) as caught:
            read()
        message = caught.value.what + caught.value.why
        assert name in message
        assert said in message
        assert caught.value.fix


def test_every_key_that_is_not_understood_is_named_at_once(tmp_path: Path) -> None:
    raw = LM | {f"strange{number}": factor(1) for number in range(3)}

    with pytest.raises(InvalidFileError) as caught:
        peft.read(peft_folder(tmp_path, raw, CONFIG))

    assert all(f"strange{number}" in caught.value.why for number in range(3))


def test_a_module_in_both_ways_of_writing_is_refused(tmp_path: Path) -> None:
    raw = UNET | pair("unet.a", "lora_A", "lora_B")

    with pytest.raises(InvalidFileError, match="no LoRA file") as caught:
        diffusers.read(diffusers_file(tmp_path, raw))

    assert "more than one" in caught.value.why


def test_each_component_of_a_file_has_settings_of_its_own(
    tmp_path: Path, make_adapter: MakeAdapter
) -> None:
    unet = make_adapter({"a": (5, (6,))}, {"a": (2, 4.0)})
    text = make_adapter({"a": (5, (6,))}, {"a": (3, 1.0)}, component="text_encoder")
    both = LoraAdapter({**unet.layers, **text.layers})

    diffusers.write(tmp_path / diffusers.FILE, both, {})

    assert same(diffusers.read(tmp_path / diffusers.FILE), both)
    settings = diffusers.lora_settings(both)
    assert (settings["unet.r"], settings["text_encoder.r"]) == (2, 3)


def test_a_component_that_no_pipeline_has_is_refused(tmp_path: Path) -> None:
    raw = UNET | pair("vae.a", "lora.down", "lora.up")

    with pytest.raises(InvalidFileError, match=r"x\.safetensors adapts vae"):
        diffusers.read(diffusers_file(tmp_path, raw))


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"use_dora": True}, "use_dora"),
    ({"use_qalora": True}, "use_qalora"),
    ({"lora_bias": True}, "lora_bias"),
    ({"bias": "all"}, "plain LoRA"),
    ({"peft_type": "LOHA"}, "LOHA"),
    ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ({"r": 3}, "rank 3, its tensors 2"),
    ({"rank_pattern": {"a": 1}}, "rank 1, its tensors 2"),
    ({"r": "2"}, "r '2' is no number"),
    ({"lora_alpha": "4"}, "lora_alpha '4' is no number"),
    ({"lora_alpha": None}, "no number"),
    ({"lora_alpha": True}, "no number"),
    ({"lora_alpha": [4]}, "no number"),
    ({"alpha_pattern": {"a": "x"}}, "no number"),
    ({"alpha_pattern": {"(a+)+$": 4}}, "not understood"),
]


@pytest.mark.parametrize(("change", "said"), BAD_SETTINGS)
def test_settings_that_are_not_those_of_plain_lora_are_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    settings = {f"unet.{key}": value for key, value in (CONFIG | change).items()}
    image = diffusers_file(tmp_path, UNET, settings)
    text = peft_folder(tmp_path, LM, CONFIG | change)

    for read in (lambda: diffusers.read(image), lambda: peft.read(text)):
        with pytest.raises(InvalidFileError) as caught:
            read()
        assert said in caught.value.what + caught.value.why
        assert caught.value.fix


@pytest.mark.parametrize("settings", ["", "{", "[]", "7", '{"unet.r": NaN}', '{"a": 1, "a": 2}'])
def test_metadata_that_is_no_json_object_is_refused(tmp_path: Path, settings: str) -> None:
    path = diffusers_file(tmp_path, UNET, settings)

    with pytest.raises(InvalidFileError, match=r"x\.safetensors: lora_adapter_metadata is not"):
        diffusers.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"peft_type": NaN}'])
def test_a_config_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    folder = peft_folder(tmp_path, LM, CONFIG)
    (folder / peft.CONFIG).write_text(text)

    with pytest.raises(InvalidFileError, match=r"adapter_config\.json is not"):
        peft.read(folder)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"adapter_config\.json"):
        peft.read(tmp_path)
    (tmp_path / peft.CONFIG).write_text(json.dumps(CONFIG))
    with pytest.raises(InvalidFileError, match=peft.WEIGHTS):
        peft.read(tmp_path)
    with pytest.raises(InvalidFileError, match=r"gone\.safetensors"):
        diffusers.read(tmp_path / "gone.safetensors")


def test_the_written_config_names_the_base_and_nothing_of_this_machine(
    tmp_path: Path, make_adapter: MakeAdapter
) -> None:
    peft.write(tmp_path, make_adapter(MODULES, MIXED, component=""), "org/base", {})

    config = json.loads((tmp_path / peft.CONFIG).read_text())

    assert config["base_model_name_or_path"] == "org/base"
    assert str(tmp_path) not in (tmp_path / peft.CONFIG).read_text()
    assert config["lora_dropout"] == 0.0
