"""Which adapter a run starts from, and that its weights are the very ones that are meant."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorareg.errors import IntegrityError, InvalidFileError, LoraregError, NotFoundError
from lorareg.registry.bases import builtin
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import ParentInput
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.trainers.adapters import parents
from lorareg.trainers.adapters.parents import Parent
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.algebra import relative_difference
from lorareg.weights.formats import diffusers, kohya, peft
from tests.registry.family import AVATAR, Family, git, tensors

INK, WASH = "manifests/style/ink", "manifests/style/wash"


def adapter(seed: int = 0, *, alpha: float = 2.0, dora: bool = False) -> LoraAdapter:
    random = np.random.default_rng(seed)
    layer = LoraLayer(
        random.standard_normal((2, 6)).astype(np.float32),
        random.standard_normal((5, 2)).astype(np.float32),
        alpha,
        np.ones(5, np.float32) if dora else None,
    )
    return LoraAdapter({"unet.mid.to_q": layer})


def same(found: LoraAdapter, expected: LoraAdapter) -> bool:
    pairs = [(found.layers[name], layer) for name, layer in expected.layers.items()]
    return found.layers.keys() == expected.layers.keys() and all(
        np.array_equal(x.down, y.down) and np.array_equal(x.up, y.up) and x.alpha == y.alpha
        for x, y in pairs
    )


@pytest.fixture
def family(registry: Path) -> Family:
    """style/wash starts from style/ink, which is trained and whose weights git does not hold."""
    git(registry, "init", "--quiet", "--initial-branch=main")
    (registry / ".gitignore").write_text("weights/\n.lorareg/\n", encoding="utf-8")
    found = Family(registry)
    found.write("style/ink")
    found.weights("style/ink", adapter())
    found.write("style/wash", parent="style/ink")
    found.commit()
    return found


def base(digest: str = AVATAR) -> ResolvedBase:
    return ResolvedBase("builtin:avatar", None, "diffusers", Path(), digest)


def manifest(family: Family, name: str = "style/wash") -> ImageManifest | TextManifest:
    return family.workspace.load_manifest(AssetId.parse(name))


def find(family: Family, digest: str = AVATAR) -> Parent | None:
    return parents.find(family.workspace, manifest(family), base(digest))


def change(family: Family, name: str, **values: Any) -> None:
    changes = {key.replace("__", "."): value for key, value in values.items()}
    family.workspace.edit_manifest(AssetId.parse(name), changes)


def given(family: Family, text: str) -> tuple[str | None, Parent | None]:
    """The manifest's parent and the file after ``--from TEXT``."""
    now, file = parents.given(family.workspace, manifest(family), text)
    assert manifest(family).parent == now.parent
    return now.parent, file


def test_a_named_parent_comes_with_its_weights_and_its_place_in_the_lock(family: Family) -> None:
    found = find(family)

    assert found
    assert same(found.adapter, adapter())
    assert found.member
    assert found.input == ParentInput(ref="style/ink", tensors=found.member.tensors)
    assert found.member.commit == git(family.root, "rev-parse", "HEAD")
    assert found.member.file == diffusers.FILE


def test_changed_weights_are_no_parent(family: Family) -> None:
    diffusers.write(family.root / INK / "weights" / diffusers.FILE, adapter(1), {})

    with pytest.raises(IntegrityError, match="do not match its lock") as caught:
        find(family)

    assert "lorareg pull style/ink" in caught.value.fix


def test_weights_that_are_not_pulled_are_asked_for(family: Family) -> None:
    (family.root / INK / "weights" / diffusers.FILE).unlink()

    with pytest.raises(NotFoundError, match="are not here") as caught:
        find(family)

    assert caught.value.fix == "lorareg pull style/ink"


def test_a_release_with_the_weights_on_disk_needs_no_other_copy(family: Family) -> None:
    git(family.root, "tag", "-m", "release", "style/ink@v1.0.0")
    family.write("style/wash", parent="style/ink@v1.0.0")

    found = find(family)

    assert found
    assert found.input.ref == "style/ink@v1.0.0"
    assert same(found.adapter, adapter())


def test_a_parent_of_another_base_is_refused_and_both_are_named(family: Family) -> None:
    with pytest.raises(LoraregError, match="style/wash cannot start from style/ink") as caught:
        find(family, "base-sha256-v1:" + "9" * 64)

    assert AVATAR in caught.value.why
    assert "9" * 64 in caught.value.why


def test_every_reason_against_a_parent_is_told_at_once(family: Family) -> None:
    change(family, "style/ink", owners=["alice"], scope__derivatives=False)

    with pytest.raises(LoraregError) as caught:
        find(family, "base-sha256-v1:" + "9" * 64)

    assert "belongs to the base" in caught.value.why
    assert "scope.derivatives: false" in caught.value.why
    assert "ask alice" in caught.value.fix


def test_an_owner_may_derive_from_a_release_of_the_adapter_itself(family: Family) -> None:
    change(family, "style/ink", scope__derivatives=False)
    family.commit("style/ink@v1.0.0")
    change(family, "style/ink", parent="style/ink@v1.0.0")

    assert parents.find(family.workspace, manifest(family, "style/ink"), base())


@pytest.mark.parametrize(
    ("is_dora", "lora", "word"),
    [
        (True, {}, "is a DoRA"),
        (False, {"lora__use_dora": True}, "a DoRA begins at"),
    ],
)
def test_variants_that_cannot_take_a_delta_over_are_refused(
    family: Family, is_dora: bool, lora: dict[str, Any], word: str
) -> None:
    family.weights("style/ink", adapter(dora=is_dora))
    change(family, "style/wash", **lora)

    with pytest.raises(LoraregError, match="cannot start from style/ink") as caught:
        find(family)

    assert word in caught.value.why


def test_a_file_and_the_bases_own_components_are_two_starts(family: Family, tmp_path: Path) -> None:
    family.write("style/wash")
    change(family, "style/wash", lora__init="pissa")
    diffusers.write(tmp_path / "old.safetensors", adapter(), {})

    with pytest.raises(LoraregError, match="cannot start from old.safetensors") as caught:
        given(family, str(tmp_path / "old.safetensors"))

    assert caught.value.fix == "set lora.init: kaiming"


def test_a_dora_may_start_from_a_dora(family: Family) -> None:
    family.weights("style/ink", adapter(dora=True))
    change(family, "style/wash", lora__use_dora=True)

    found = find(family)

    assert found
    assert found.adapter.is_dora


@pytest.mark.parametrize(
    ("text", "written"),
    [("style/ink", "style/ink"), ("ink", "style/ink"), ("ink@v1.2.0", "style/ink@v1.2.0")],
)
def test_an_adapter_given_to_train_is_written_into_the_manifest(
    family: Family, text: str, written: str
) -> None:
    family.write("style/wash")
    family.commit("style/ink@v1.2.0")

    assert given(family, text) == (written, None)


@pytest.mark.parametrize(
    "text",
    ["style/ink@stable", "style/imk", "gone.safetensors", "style/ink@v9.0.0", "style/wash", "../x"],
)
def test_what_is_neither_an_adapter_nor_a_file_leaves_the_manifest_alone(
    family: Family, text: str
) -> None:
    with pytest.raises(LoraregError) as caught:
        given(family, text)

    assert caught.value.fix
    assert manifest(family).parent == "style/ink"


def test_an_adapter_that_cannot_be_the_parent_is_not_written_into_the_manifest(
    family: Family,
) -> None:
    family.write("style/line")
    change(family, "style/line", base__model="base")
    base = family.root / "base"
    shutil.copytree(builtin.avatar(), base)
    (base / "unet/config.json").write_text("{}", encoding="utf-8")

    with pytest.raises(LoraregError, match="style/line cannot start from style/ink"):
        parents.given(family.workspace, manifest(family, "style/line"), "ink")
    with pytest.raises(LoraregError, match="style/ink descends from itself"):
        parents.given(family.workspace, manifest(family, "style/ink"), "wash")

    assert manifest(family, "style/line").parent is None
    assert manifest(family, "style/ink").parent is None


def test_what_only_few_may_see_is_not_learned_from_for_more(family: Family) -> None:
    change(family, "style/ink", visibility="private")

    with pytest.raises(LoraregError, match="cannot start from style/ink") as caught:
        find(family)

    assert "it is private, and style/wash, which would hold it, is team" in caught.value.why
    assert caught.value.fix == "set visibility: private"
    change(family, "style/wash", visibility="private")
    assert find(family)


def test_a_folder_without_weights_says_what_was_looked_for(family: Family) -> None:
    with pytest.raises(NotFoundError, match="names neither an adapter nor weights") as caught:
        given(family, str(family.root / INK))

    assert diffusers.FILE in caught.value.why


def test_a_file_is_read_and_only_its_own_name_is_kept(family: Family, tmp_path: Path) -> None:
    family.write("style/wash")
    file = tmp_path / "secret-folder" / "old.safetensors"
    diffusers.write(file, adapter(3), {})

    written, found = given(family, str(file))

    assert written is None
    assert found
    assert found.member is None
    assert (found.input.ref, found.input.file) == ("old.safetensors", True)
    assert same(found.adapter, adapter(3))


def test_a_folder_of_weights_is_a_file_and_the_folder_of_an_asset_is_not(family: Family) -> None:
    family.write("style/wash")

    _, found = given(family, str(family.root / INK / "weights"))
    assert found
    assert found.input.ref == "weights"
    with pytest.raises(LoraregError):
        given(family, str(family.root / INK))


def test_a_language_model_takes_a_peft_folder_or_the_file_in_it(
    family: Family, tmp_path: Path
) -> None:
    family.write("tone/pirate")
    path = family.root / "manifests/tone/pirate/manifest.yaml"
    text = path.read_text(encoding="utf-8").replace("text-to-image", "text-generation")
    path.write_text(text.replace("avatar", "smollm2"), encoding="utf-8")
    layer = adapter().layers["unet.mid.to_q"]
    peft.write(tmp_path / "lora", LoraAdapter({"layers.0.q_proj": layer}), "base", {})

    for place in (tmp_path / "lora", tmp_path / "lora" / peft.WEIGHTS):
        _, found = parents.given(family.workspace, manifest(family, "tone/pirate"), str(place))
        assert found
        assert found.adapter.layers.keys() == {"layers.0.q_proj"}
        assert found.input.ref == place.name


def test_of_two_files_in_a_folder_the_named_one_is_read(family: Family, tmp_path: Path) -> None:
    family.write("tone/pirate")
    path = family.root / "manifests/tone/pirate/manifest.yaml"
    text = path.read_text(encoding="utf-8").replace("text-to-image", "text-generation")
    path.write_text(text.replace("avatar", "smollm2"), encoding="utf-8")
    child = manifest(family, "tone/pirate")
    old, new = (adapter(seed).layers["unet.mid.to_q"] for seed in (1, 2))
    peft.write(tmp_path, LoraAdapter({"q_proj": old}), "base", {})
    (tmp_path / peft.WEIGHTS).rename(tmp_path / "old.safetensors")
    peft.write(tmp_path, LoraAdapter({"q_proj": new}), "base", {})

    _, found = parents.given(family.workspace, child, str(tmp_path / "old.safetensors"))

    assert found
    assert np.array_equal(found.adapter.layers["q_proj"].down, old.down)
    (tmp_path / peft.CONFIG).unlink()
    with pytest.raises(NotFoundError, match="no adapter_config.json beside old.safetensors"):
        parents.given(family.workspace, child, str(tmp_path / "old.safetensors"))


def test_the_identity_of_a_file_holds_its_alpha_but_not_its_name(
    family: Family, tmp_path: Path
) -> None:
    family.write("style/wash")
    for name, alpha in (("a", 2.0), ("b", 2.0), ("c", 4.0)):
        diffusers.write(tmp_path / f"{name}.safetensors", adapter(alpha=alpha), {"title": name})

    digests = []
    for name in "abc":
        _, found = given(family, str(tmp_path / f"{name}.safetensors"))
        assert found
        digests.append(found.input.tensors)

    assert digests[0] == digests[1] != digests[2]


def test_a_file_of_kohyas_scripts_is_a_parent_too(family: Family, tmp_path: Path) -> None:
    family.write("style/wash")
    module = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    layer = adapter().layers["unet.mid.to_q"]
    written = LoraAdapter({module: layer})
    kohya.write(tmp_path / "old.safetensors", written, "sd1", {})

    _, found = given(family, str(tmp_path / "old.safetensors"))

    assert found
    assert found.adapter.layers.keys() == written.layers.keys()
    assert relative_difference(found.adapter, written) < 1e-6


def test_a_pickle_is_not_opened(family: Family, tmp_path: Path) -> None:
    family.write("style/wash")
    file = tmp_path / "old.pt"
    file.write_bytes(b"\x80\x04cos\nsystem\n.")

    with pytest.raises(InvalidFileError, match="old.pt is refused"):
        given(family, str(file))


def test_a_file_beside_a_parent_in_the_manifest_is_one_too_many(
    family: Family, tmp_path: Path
) -> None:
    file = tmp_path / "old.safetensors"
    diffusers.write(file, adapter(), {})

    with pytest.raises(LoraregError, match="has two parents: style/ink and the file old") as caught:
        given(family, str(file))

    assert "remove parent from manifests/style/wash/manifest.yaml" in caught.value.fix


def test_training_anew_without_the_file_it_began_with_is_refused(family: Family) -> None:
    family.write("style/wash")
    file = ParentInput(ref="old.safetensors", tensors=tensors("f"), file=True)
    family.lock("style/wash", "b", parent=file)

    with pytest.raises(NotFoundError, match="started from the file old.safetensors") as caught:
        find(family)

    assert "lorareg train style/wash --from old.safetensors" in caught.value.fix
