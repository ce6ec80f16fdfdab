"""What of a release goes to the Hub: enough to use and to prove it, nothing of people and data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from lorareg.errors import LoraregError
from lorareg.registry import tensors
from lorareg.registry.header import read_header
from lorareg.registry.lock import TrainedLock, output, parse
from tests.registry.published import NAME, REPO, SD, SECRETS, VERSION, WEIGHTS, Press


@pytest.fixture
def press(registry: Path) -> Press:
    return Press.make(registry)


def published(press: Press, repo: str = REPO) -> dict[str, bytes]:
    """Every file of the repository."""
    files = press.hub.model(repo).head.files
    return {
        path: press.hub.objects[file.sha256] if file.sha256 else file.data
        for path, file in files.items()
    }


def trained_on_sd(press: Press, **keys: Any) -> None:
    base = {**SD, "digest": "base-sha256-v1:" + "d" * 64}
    press.add(inputs={"base": base}, base=SD, **keys)


def with_secret_header(press: Press) -> None:
    """A weights file whose header tells of people and folders, and its lock."""
    file = press.folder() / "weights" / WEIGHTS
    raw, notes = tensors.read(file)
    told = {"ss_dataset_dirs": SECRETS[1], "ss_tag_frequency": SECRETS[2], "author": SECRETS[3]}
    tensors.write(file, raw, {**notes, **told})
    lock = press.folder() / "lock.json"
    document = json.loads(lock.read_text(encoding="utf-8"))
    document["outputs"][WEIGHTS] = output(file).model_dump(mode="json")
    document["inputs"]["config"]["resolved"]["skip"] = [SECRETS[2]]
    lock.write_text(json.dumps(document), encoding="utf-8")


def test_nothing_of_people_and_data_goes_up(press: Press) -> None:
    press.add()
    with_secret_header(press)
    (press.folder() / "dataset.png").write_bytes(b"\x89PNG contact sheet")
    press.release()

    press.publish()

    files = published(press)
    assert set(files) == {
        ".gitattributes", "README.md", "lock.json", "lorareg.json", "manifest.yaml", WEIGHTS,
    }  # fmt: skip
    found = [(path, word) for path, data in files.items() for word in SECRETS
             if word.encode() in data]  # fmt: skip
    assert found == []


def test_a_scrubbed_file_has_the_tensors_of_the_lock(press: Press, tmp_path: Path) -> None:
    press.add()
    with_secret_header(press)
    press.release()
    lock = parse((press.folder() / "lock.json").read_text(encoding="utf-8"), Path("k/n/lock.json"))

    press.publish()

    file = tmp_path / "back.safetensors"
    file.write_bytes(published(press)[WEIGHTS])
    assert set(read_header(file).metadata) == {"format", "lora_adapter_metadata"}
    assert tensors.tensor_digest(file) == lock.outputs[WEIGHTS].tensors
    assert output(file).sha256 != lock.outputs[WEIGHTS].sha256


def test_a_file_whose_header_is_clean_goes_up_to_the_byte(press: Press) -> None:
    press.add()
    press.release()

    press.publish()

    here = press.folder() / "weights" / WEIGHTS
    assert published(press)[WEIGHTS] == here.read_bytes()


def test_the_lock_that_goes_up_is_one_and_keeps_its_fingerprint_and_digests(press: Press) -> None:
    press.add()
    press.release()
    before = parse(
        (press.folder() / "lock.json").read_text(encoding="utf-8"), Path("k/n/lock.json")
    )

    press.publish()

    after = parse(published(press)["lock.json"].decode(), Path("k/n/lock.json"))
    assert isinstance(after, TrainedLock)
    assert isinstance(before, TrainedLock)
    assert (after.fingerprint, after.outputs) == (before.fingerprint, before.outputs)
    assert after.inputs.dataset.digest == before.inputs.dataset.digest
    assert (after.inputs.dataset.records, after.inputs.dataset.path) == (0, "dataset")


def test_the_marker_ties_the_repository_to_the_release(press: Press) -> None:
    from lorareg.registry.digest import of_bytes

    press.add()
    press.release()

    press.publish()

    marker = json.loads(published(press)["lorareg.json"])
    lock = (press.folder() / "lock.json").read_bytes()
    assert (marker["asset"], marker["version"], marker["registry"]) == (NAME, VERSION, "scratch")
    assert marker["lock"] == of_bytes(lock)
    assert marker["commit"] == press.subject().commit
    assert marker["files"]["README.md"] == of_bytes(published(press)["README.md"])


def test_the_card_is_one_that_the_hub_understands(press: Press) -> None:
    trained_on_sd(press)
    (press.folder() / "preview.png").write_bytes(b"\x89PNG")
    press.release()

    press.publish()

    card = ModelCard(press.text("README.md"))
    data = card.data.to_dict()
    assert data["base_model"] == [SD["model"]]
    assert data["base_model_relation"] == "adapter"
    assert (data["license"], data["pipeline_tag"]) == ("cc-by-4.0", "text-to-image")
    assert data["library_name"] == "diffusers"
    assert data["instance_prompt"] == "zzhangsan"
    assert data["tags"] == ["lora", "lorareg", "character"]
    assert data["language"] == ["en", "zh"]
    assert data["widget"][0] == {"text": "你好", "output": {"text": "arr"}}
    assert [r.metric_value for r in card.data.eval_results] == [0.15, 0.2]
    assert "extra_gated_prompt" not in data
    assert "# 张三 · Zhang San" in card.text
    assert f"lorareg pull hub:{REPO}@{VERSION}" in card.text
    assert "no commercial use" in card.text
    assert "A set by Someone, CC0-1.0" in card.text


def test_a_gated_card_asks_for_agreement_to_the_scope(press: Press) -> None:
    press.add(publish={"hub": REPO, "gated": "manual"})
    press.release()

    press.publish()

    data = ModelCard(press.text("README.md")).data.to_dict()
    assert "no commercial use" in data["extra_gated_prompt"]
    assert "until 2999-12-31" in data["extra_gated_prompt"]
    assert data["extra_gated_fields"]["I agree to these terms"] == "checkbox"
    assert data["extra_gated_fields"]["Name"] == "text"


def test_a_licence_that_the_hub_does_not_know_is_named_as_other(press: Press) -> None:
    press.add(license={"id": "studio-house-terms", "link": "https://example.org/terms"})
    press.release()

    press.publish()

    data = ModelCard(press.text("README.md")).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "studio-house-terms")
    assert data["license_link"] == "https://example.org/terms"


def test_what_a_manifest_says_cannot_break_the_front_matter(press: Press) -> None:
    nasty = 'a: "b\n---\nlicense: mit\n# {x}'
    press.add(description=nasty, title={"en": nasty}, trigger=nasty)
    press.release()

    press.publish()

    data = ModelCard(press.text("README.md")).data.to_dict()
    assert (data["license"], data["instance_prompt"]) == ("cc-by-4.0", nasty)


def test_a_recipe_has_a_repository_that_names_its_members(press: Press) -> None:
    make_recipe(press)

    press.publish("recipe/both")

    files = published(press, "studio/both")
    recipe = json.loads(files["recipe.json"])
    assert [(p["hub"], p["weight"]) for p in recipe["parts"]] == [(f"{REPO}@{VERSION}", 0.8)]
    data = ModelCard(files["README.md"].decode()).data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == ([SD["model"]], "adapter")
    assert data["license"] == "cc-by-4.0"
    assert "| triggers | `zzhangsan` |" in files["README.md"].decode()
    assert WEIGHTS not in files


def test_a_licence_that_the_hub_does_not_know_gets_an_id_there(press: Press) -> None:
    press.add(license={"id": "Studio Licence 2.0 (internal)"})
    press.release()

    press.publish()

    data = ModelCard(press.text("README.md")).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "studio-licence-2.0-internal")


def test_a_merged_file_is_a_merge_of_its_members(press: Press) -> None:
    make_recipe(press, merged=True)

    press.publish("recipe/both")

    files = published(press, "studio/both")
    data = ModelCard(files["README.md"].decode()).data.to_dict()
    assert data["base_model"] == [SD["model"], REPO]
    assert data["base_model_relation"] == "merge"
    assert WEIGHTS in files


def test_a_merged_file_does_not_lead_past_the_gate_of_a_member(press: Press) -> None:
    make_recipe(press, merged=True)
    press.set(publish={"hub": REPO, "gated": "manual"})

    with pytest.raises(LoraregError, match="is behind a gate, and is in the merged file"):
        press.publish("recipe/both")

    assert press.hub.calls() == []
    press.set("recipe/both", publish={"hub": "studio/both", "gated": "manual"})
    assert press.publish("recipe/both").gated == "manual"


def make_recipe(press: Press, *, merged: bool = False) -> None:
    """recipe/both of a released adapter, released too."""
    import shutil

    trained_on_sd(press)
    press.release()
    member = json.loads((press.folder() / "lock.json").read_text(encoding="utf-8"))
    folder = press.folder("recipe/both")
    folder.mkdir(parents=True)
    golden = Path(__file__).parents[1] / "golden/v1/recipe-lock.json"
    document = json.loads(golden.read_text(encoding="utf-8"))
    document["base"] = member["inputs"]["base"]
    own = member["outputs"][WEIGHTS]
    pin = {"ref": f"{NAME}@{VERSION}", "sha256": own["sha256"], "tensors": own["tensors"]}
    document["members"][0] |= pin
    if merged:
        shutil.copytree(press.folder() / "weights", folder / "weights")
        document["outputs"] = {WEIGHTS: own}
    (folder / "lock.json").write_text(json.dumps(document), encoding="utf-8")
    keys = {"schema": "lorareg/1", "kind": "recipe", "name": "both", "visibility": "public"}
    parts = [{"ref": f"{NAME}@{VERSION}", "weight": 0.8}]
    manifest = {**keys, "parts": parts, "publish": {"hub": "studio/both"}}
    (folder / "manifest.yaml").write_text(json.dumps(manifest), encoding="utf-8")
    press.release("recipe/both")


def test_no_token_is_printed_or_written(
    press: Press, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from lorareg.errors import LoraregError

    press.add()
    press.release()
    token = press.token
    press.publish()
    press.hub.users.clear()  # the Hub repeats what it does not know
    press.hub.meanwhile("GET", "/api/models/", lambda: _repeat(token))
    with pytest.raises(LoraregError) as caught:
        press.publish()

    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    said = "".join([*press.said, *capfd.readouterr(), str(caught.value)])
    sent = b"".join(published(press).values())
    assert token not in said
    assert token.encode() not in written + sent
    assert "***" in said


def _repeat(token: str) -> None:
    from tests.hub.protocol import RefusalError

    raise RefusalError(403, f"the token {token} may not do that")
