from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry import digest, lock, tensors
from lorareg.registry.lock import Lock, RecipeLock
from lorareg.registry.tensors import RawTensor

GOLDEN = Path(__file__).parents[1] / "golden/v1"
SHA = "sha256:" + "a" * 64
CONFIG = {"lora": {"rank": 4}, "标题": "张三"}
FINGERPRINT = (
    "fingerprint-sha256-v1:70c2fd926fb3bf9630121c5ce40ce94988db9764b6b350e797c3c09116c26094"
)
MEMBER = {
    "ref": "character/zhangsan", "weight": 0.8, "commit": "b" * 40,
    "file": "pytorch_lora_weights.safetensors", "sha256": SHA,
    "tensors": "tensors-sha256-v1:" + "c" * 64,
}  # fmt: skip


def document() -> dict[str, Any]:
    """A lock as the tool writes it."""
    base = {"model": "builtin:avatar", "revision": None, "digest": "base-sha256-v1:" + "d" * 64}
    return {
        "schema": "lorareg/lock/1",
        "asset": "character/zhangsan",
        "task": "text-to-image",
        "inputs": {
            "base": base,
            "dataset": {
                "path": "data/char_zhangsan", "digest": "tree-sha256-v1:" + "e" * 64, "files": 25,
                "records": 24, "md5": "f" * 32 + ".dir",
            },
            "config": {"digest": digest.of_json(CONFIG), "resolved": CONFIG},
            "trainer": "1",
            "chat_template": None,
        },
        "fingerprint": FINGERPRINT,
        "environment": {
            "python": "3.11.7", "packages": {"torch": "2.13.0"}, "platform": "linux-x86_64",
            "device": "cpu", "precision": "fp32", "threads": 2, "commit": "1" * 40, "dirty": False,
        },
        "outputs": {
            "pytorch_lora_weights.safetensors": {
                "bytes": 100, "sha256": SHA, "tensors": "tensors-sha256-v1:" + "c" * 64
            }
        },
        "result": {
            "steps": 450, "best_step": 400, "train_loss": 0.1, "base_validation_loss": 0.2,
            "validation_loss": 0.15, "seconds": 93.4, "rank": 4, "alpha": 4.0, "modules": 16,
            "stopped": "early", "held_out": 2,
            "replies": [{"prompt": "你好", "base": "hi", "adapter": "arr"}],
        },
        "parents": [],
    }  # fmt: skip


def recipe_document() -> dict[str, Any]:
    return {
        "schema": "lorareg/lock/1",
        "asset": "recipe/both",
        "task": "text-to-image",
        "base": document()["inputs"]["base"],
        "members": [MEMBER],
        "fingerprint": "recipe-sha256-v1:" + "9" * 64,
        "outputs": {},
    }


@pytest.fixture
def path(registry: Path) -> Path:
    found = registry / "manifests/character/zhangsan/lock.json"
    found.parent.mkdir(parents=True)
    return found


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InvalidFileError, match=r"character/zhangsan/lock\.json") as caught:
        lock.load(path)
    assert "restore" in caught.value.fix, "nobody edits a lock"
    return caught.value.what + caught.value.why


@pytest.mark.parametrize(("value", "kind"), [(document(), Lock), (recipe_document(), RecipeLock)])
def test_a_lock_is_read_as_it_was_saved(path: Path, value: dict[str, Any], kind: type) -> None:
    found = lock.load(written(path, value))

    lock.save(path, found)

    assert isinstance(found, kind)
    assert lock.load(path) == found
    assert json.loads(path.read_text("utf-8")) == value


def test_equal_locks_are_equal_files(path: Path) -> None:
    lock.save(path, document())
    before = path.read_bytes()

    lock.save(path, dict(reversed(document().items())))

    assert path.read_bytes() == before
    assert before.endswith(b"}\n")
    assert "张三".encode() in before, "people read it in a diff"


@pytest.mark.parametrize("name", ["lock.json", "recipe-lock.json"])
def test_a_lock_of_the_first_version_stays_readable(
    path: Path, name: str, same_as_file: Callable[[Path, bytes], None]
) -> None:
    lock.save(path, document() if name == "lock.json" else recipe_document())

    same_as_file(GOLDEN / name, path.read_bytes())
    assert lock.load(GOLDEN / name).task == "text-to-image"


def test_the_fingerprint_never_changes_for_equal_inputs(path: Path) -> None:
    found = lock.load(written(path, document()))

    assert isinstance(found, Lock)
    assert found.inputs.fingerprint() == FINGERPRINT


@pytest.mark.parametrize("changed", ["config", "dataset", "base", "trainer"])
def test_the_fingerprint_changes_with_every_input(changed: str) -> None:
    inputs = {"config": "a", "dataset": "b", "base": "c", "trainer": "1"}

    assert lock.fingerprint(**inputs) != lock.fingerprint(**(inputs | {changed: "z"}))


def test_inputs_cannot_be_traded_for_one_another() -> None:
    assert lock.fingerprint(config="a", dataset="b", base="c") != lock.fingerprint(
        config="b", dataset="a", base="c"
    )


def test_facts_of_a_weights_file_are_those_on_disk(tmp_path: Path) -> None:
    held = {"a": RawTensor("F32", (1,), bytes(4))}
    tensors.write(tmp_path / "a.safetensors", held, {})
    (tmp_path / "adapter_config.json").write_text("{}")

    weights = lock.output(tmp_path / "a.safetensors")
    config = lock.output(tmp_path / "adapter_config.json")

    assert weights.bytes == (tmp_path / "a.safetensors").stat().st_size
    assert weights.sha256 == digest.of_file(tmp_path / "a.safetensors")
    assert weights.tensors == tensors.digest_of(held)
    assert config.tensors is None


@pytest.mark.parametrize(
    ("dotted", "value", "said"),
    [
        ("schema", "lorareg/lock/2", "'lorareg/lock/1'"),
        ("fingerprint", "abc", "expected"),
        ("fingerprint", SHA.upper(), "expected"),
        ("outputs", {}, "at least 1"),
        ("outputs", {"../weights.safetensors": {}}, "../weights.safetensors"),
        ("outputs", {"/etc/passwd": {}}, "/etc/passwd"),
        ("outputs", {"a/b": {}}, "a/b"),
        ("outputs", {".hidden": {}}, ".hidden"),
        ("result.train_loss", "low", "valid number"),
        ("result.steps", True, "valid integer"),
        ("environment.user", "alice", "unknown key"),
        ("inputs.base.digets", "x", "did you mean digest?"),
        ("task", "video", "'text-to-image' or 'text-generation'"),
    ],
)
def test_a_lock_that_was_tampered_with_is_refused(
    path: Path, dotted: str, value: Any, said: str
) -> None:
    changed = document()
    *parents, last = dotted.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[last] = value

    assert said in refusal(written(path, changed))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'{"asset": "a", "asset": "b"}', "given twice"),
        (b'{"result": NaN}', "NaN is not JSON"),
        (b'{"a": "\\ud800"}', "surrogates"),
        (b"<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n", "Expecting value"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"inputs":' * 300 + b"1" + b"}" * 300, "recursion limit"),
    ],
)
def test_what_is_no_lock_is_refused(path: Path, data: bytes, said: str) -> None:
    path.write_bytes(data)

    assert said in refusal(path)


def test_a_missing_lock_is_named(path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no lock\.json"):
        lock.load(path)


def test_a_lock_never_holds_nan(path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        lock.save(path, document() | {"loss": float("nan")})

    assert not path.exists()
