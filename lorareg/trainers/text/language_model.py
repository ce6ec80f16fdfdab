"""A causal language model from files on this disk: safetensors or GGUF, no code, no pickle."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.bases.builtin import cache_folder
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.machine.runtime import align
from lorareg.trainers.text import quantized
from lorareg.trainers.text.quantized import Quantization
from lorareg.trainers.text.segment_attention import PLAIN_ATTENTION_TOKENS

ABANDONED_SECONDS = 3600  # an unfinished folder this old belongs to a process that was killed


@lru_cache(maxsize=1)  # the check of the data reads it, then the training does
def load_tokenizer(base: ResolvedBase) -> Any:
    """The base's own tokenizer.

    Raises:
        InvalidFileError: there is none that works without running code of the base.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(**_where(base))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unusable(base, "tokenizer", error) from error


def load_model(
    base: ResolvedBase,
    runtime: Runtime,
    tokenizer: Any,
    longest: int,
    quantization: Quantization | None = None,
) -> Any:
    """The base, frozen, in eval mode, on the device.

    Args:
        base: a transformers folder or a GGUF.
        runtime: device and precision; its cache takes a dequantized GGUF.
        tokenizer: the base's, kept beside a dequantized GGUF.
        longest: tokens of the longest sequence to train on.
        quantization: of the weights, on CUDA; see ``quantized``.

    Raises:
        InvalidFileError: it is no causal language model in safetensors or GGUF.
    """
    home = dequantized(base, runtime, tokenizer) if base.layout == "gguf" else base
    if quantization:
        more = quantized.options(quantization, runtime.device, runtime.dtype)
        return _frozen(_read_model(home, runtime.dtype, use_safetensors=True, **more))
    model = _frozen(_read_model(home, runtime.dtype, use_safetensors=True))
    if runtime.device == "cpu" and runtime.dtype != "float32" and longest <= PLAIN_ATTENTION_TOKENS:
        model.set_attn_implementation("eager")
    align(model)
    return model.to(runtime.device)


def _frozen(model: Any) -> Any:
    model.requires_grad_(False)
    model.eval()
    model.config.use_cache = False
    return model


def dequantized(base: ResolvedBase, runtime: Runtime, tokenizer: Any) -> ResolvedBase:
    """The GGUF as an ordinary folder in the cache, made the first time (14 s for SmolLM2).

    The folder's name holds the file's digest, the precision and the versions of the libraries that
    dequantize, so it cannot go stale. It is made under another name and renamed when whole. The
    tokenizer is kept with it: out of a GGUF it takes 5 s to read, out of a folder 0.3 s.
    """
    home = dequantized_home(base, runtime)
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        _sweep(home.parent)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=home.parent))
        try:
            _dequantize(base, runtime.dtype, partial)
            tokenizer.save_pretrained(partial)
            if not home.is_dir():  # another process may have been faster
                partial.rename(home)
        except OSError as error:
            raise LoraregError(
                f"cannot keep the dequantized {base.model}",
                why=f"{error} ({home.parent})",
                fix="make room there, then run the command again; nothing was changed",
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return replace(base, layout="transformers", path=home)


def dequantized_home(base: ResolvedBase, runtime: Runtime) -> Path:
    """Where ``dequantized`` keeps the folder: a built-in base once a user, else in the registry."""
    cache = cache_folder() if base.model.startswith("builtin:") else runtime.cache
    identity = base.digest.rpartition(":")[2][:32]
    made_by = f"transformers-{transformers.__version__}-gguf-{version('gguf')}"
    return cache / "gguf" / f"{identity}-{runtime.dtype}-{made_by}"


def _dequantize(base: ResolvedBase, dtype: str, folder: Path) -> None:
    """Load the GGUF dense and save it as safetensors.

    transformers counts a model from a GGUF as quantized even when its weights are dense, and
    refuses to save it; a fresh model that is given the weights has no such memory.
    """
    dense = transformers.GgufConfig(gguf_file=base.path.name, dequantize=True)
    loaded = _read_model(base, dtype, quantization_config=dense)
    plain = loaded.config.to_dict()
    plain.pop("quantization_config", None)
    config = type(loaded.config).from_dict(plain)
    with torch.device("meta"):
        model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    with _no_progress_bars():
        model.save_pretrained(folder)


def _read_model(base: ResolvedBase, dtype: str, **options: Any) -> Any:
    try:
        with _no_progress_bars():
            return transformers.AutoModelForCausalLM.from_pretrained(
                **_where(base), dtype=getattr(torch, dtype), **options
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unusable(base, "model", error) from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Transformers draws bars over the ones of the command line."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def _where(base: ResolvedBase) -> dict[str, Any]:
    offline = {"local_files_only": True, "trust_remote_code": False}
    if base.layout == "gguf":
        return {
            "pretrained_model_name_or_path": str(base.path.parent),
            "gguf_file": base.path.name,
            **offline,
        }
    return {"pretrained_model_name_or_path": str(base.path), **offline}


def _unusable(base: ResolvedBase, part: str, error: Exception) -> InvalidFileError:
    lines = str(error).strip().splitlines()
    return InvalidFileError(
        f"base {base.model}: its {part} cannot be loaded",
        why=lines[0] if lines else type(error).__name__,
        fix="take a causal language model known to transformers, with its weights in "
        ".safetensors or .gguf; code and pickles of a base are never run",
    )


def _sweep(folder: Path) -> None:
    for partial in folder.glob(".partial-*"):
        if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(partial, ignore_errors=True)
