"""Where exports go, what they say of recipes, and what files of others leave in a registry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lorareg.registry import tensors
from lorareg.registry.header import read_header
from lorareg.weights.adapter import to_raw
from lorareg.weights.importing import PATH
from tests.flows.conftest import lorareg
from tests.flows.test_formats import samples  # noqa: F401  the fixture

MODULE = "lora_unet_down_blocks_0_resnets_0_conv1"


def write_lora(path: Path, shapes: tuple[Path, float], **header: str) -> Path:
    """A file of one module of the built-in base, cut from an export, with another alpha."""
    source, alpha = shapes
    raw, _ = tensors.read(source)
    own = {key: tensor for key, tensor in raw.items() if key.startswith(f"{MODULE}.")}
    own[f"{MODULE}.alpha"] = to_raw(np.array(alpha, dtype=np.float32))
    tensors.write(path, own, {key.replace("__", "."): value for key, value in header.items()})
    return path


@pytest.fixture(scope="module")
def ink(samples: Path) -> Path:  # noqa: F811
    file = samples / "exports" / "ink.safetensors"
    told = lorareg(
        samples, "export", "lorelei-ink", "--format", "kohya", "--public", "--out", str(file)
    )
    assert told.code == 0, told.err
    return file


def test_an_export_never_replaces_what_the_registry_keeps(samples: Path) -> None:  # noqa: F811
    weights = samples / "manifests/style/lorelei-ink/weights/pytorch_lora_weights.safetensors"
    before = weights.read_bytes()

    refused = lorareg(samples, "export", "lorelei-ink", "--format", "kohya", "--out", str(weights))

    assert refused.code == 2
    assert "registry's own files" in refused.err
    assert weights.read_bytes() == before


def test_a_file_is_not_written_over_a_folder(samples: Path, tmp_path: Path) -> None:  # noqa: F811
    for form in ("kohya", "a1111"):
        refused = lorareg(
            samples, "export", "lorelei-ink", "--format", form, "--out", str(tmp_path)
        )

        assert refused.code == 2
        assert f"--out {tmp_path.name}/NAME" in refused.err


def test_a_peft_folder_with_more_in_it_is_not_replaced(
    samples: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = tmp_path / "pirate"
    export = ("export", "pirate", "--format", "peft", "--out", str(folder))
    assert lorareg(samples, *export).code == 0
    again = lorareg(samples, *export)
    (folder / "optimizer.pt").write_bytes(b"months of work")
    refused = lorareg(samples, *export)

    assert again.code == 0, again.err
    assert refused.code == 2
    assert "optimizer.pt" in refused.err
    assert (folder / "optimizer.pt").read_bytes() == b"months of work"


def test_a_server_is_given_the_recipe_and_not_the_sum_of_its_parts(
    samples: Path,  # noqa: F811
) -> None:
    made = lorareg(
        samples, "compose", "tone/pirate:0.5", "--as", "half", "--output", "compressed",
        "--rank", "2",
    )  # fmt: skip
    asked = lorareg(samples, "export", "recipe/half", "--format", "vllm")

    assert made.code == 0, made.err
    assert json.loads(asked.out)["folder"].startswith("lorareg export recipe/half --format peft")
    assert "--base-name" in asked.err


def test_for_the_public_nothing_gives_the_number_of_pictures_away(ink: Path) -> None:
    told = read_header(ink).metadata

    assert not {"ss_num_train_images", "ss_num_batches_per_epoch", "ss_num_epochs"} & told.keys()


def test_a_file_whose_alphas_are_zero_is_refused_by_its_own_name(
    samples: Path,  # noqa: F811
    ink: Path,
    tmp_path: Path,
) -> None:
    file = write_lora(tmp_path / "nothing.safetensors", (ink, 0.0))

    refused = lorareg(samples, "import", str(file), "style/nothing")

    assert refused.code == 2
    assert "no module of nothing.safetensors has an alpha above 0" in refused.err
    assert not (samples / "manifests/style/nothing").exists()


def test_paths_and_line_breaks_of_a_header_stay_outside(
    samples: Path,  # noqa: F811
    ink: Path,
    tmp_path: Path,
) -> None:
    file = write_lora(
        tmp_path / "told.safetensors", (ink, 4.0),
        modelspec__title="Ink\nof \x1b two lines", modelspec__trigger_phrase="x" * 5000,
        ss_training_comment="see file:///home/ann/x",
        modelspec__implementation="https://example.org/trainer",
    )  # fmt: skip

    taken = lorareg(samples, "import", str(file), "style/told", "--json")

    assert taken.code == 0, taken.err
    header = taken.json["lock"]["inputs"]["header"]
    assert "ss_training_comment" not in header
    assert header["modelspec.implementation"] == "https://example.org/trainer"
    shown = lorareg(samples, "show", "style/told", "--json").json["manifest"]
    assert shown["title"] == {"en": "Ink of two lines"}
    assert taken.json["trigger"] is None


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        ("/home/ann/x", True), ("file:///home/ann", True), ("dir:/mnt/x", True),
        ("a,/mnt/x", True), ("[/mnt/x]", True), (r"x=C:\Users\ann", True),
        ("https://example.org/a", False), ("epoch 3/10", False), ("(512, 512)", False),
    ],
)  # fmt: skip
def test_what_looks_like_a_path_is_known_and_an_address_is_none(text: str, is_path: bool) -> None:
    assert bool(PATH.search(text)) == is_path


def test_a_pickle_that_is_not_there_is_not_called_dangerous_and_one_that_is_says_what_it_holds(
    samples: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "harm.pt").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")

    absent = lorareg(samples, "import", str(tmp_path / "no.pt"), "style/no", "--from-pickle")
    harmful = lorareg(samples, "import", str(tmp_path / "harm.pt"), "style/no", "--from-pickle")

    assert absent.code == harmful.code == 2
    assert "there is no no.pt" in absent.err
    assert "posix.system" in harmful.err
