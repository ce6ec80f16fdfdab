"""What to ask servers of language models: how they are started, and a request with the adapter."""

from __future__ import annotations

import json
import shlex
from typing import Any

from lorareg.errors import LoraregError
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.exporting.subject import Subject

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM takes for --max-lora-rank. Source: vllm/config/lora.py."""


def vllm(subject: Subject, adapter: LoraAdapter) -> str:
    """One adapter a request, by the name it was given: of several parts the merged folder.

    vLLM drops rank and alpha patterns without a word and refuses DoRA; the folder that ``lorareg
    export --format peft`` writes has one rank and alpha = rank.
    """
    _refuse_dora(adapter, "vLLM")
    rank = next((each for each in VLLM_RANKS if each >= adapter.rank), None)
    if rank is None:
        raise LoraregError(
            f"{subject.ref} has rank {adapter.rank}, and vLLM takes at most {VLLM_RANKS[-1]}",
            why="the ranks of the parts add up in an exact sum",
            fix="compose it compressed, and export that recipe: lorareg compose EXPR --rank 64",
        )
    serve = [
        "vllm", "serve", subject.base_name, "--enable-lora", "--max-lora-rank", str(rank),
        "--lora-modules", f"{subject.name}=./{subject.name}",
    ]  # fmt: skip
    request = {"model": subject.name, "messages": _messages(subject), **_sampling(subject)}
    return _document(subject, serve, "POST /v1/chat/completions", request)


def lorax(subject: Subject, adapter: LoraAdapter) -> str:
    """One local folder; never LoRAX's own merging, which squares weights and mixes factors."""
    _refuse_dora(adapter, "LoRAX")
    serve = ["lorax-launcher", "--model-id", subject.base_name]
    parameters = {
        "adapter_id": f"./{subject.name}",
        "adapter_source": "local",
        "max_new_tokens": subject.parts[0].manifest.sample.max_new_tokens,
        "do_sample": False,
    }
    request = {"inputs": subject.prompt or "Hello!", "parameters": parameters}
    return _document(subject, serve, "POST /generate", request)


def _document(subject: Subject, serve: list[str], call: str, request: dict[str, Any]) -> str:
    document = {
        "folder": f"lorareg export {shlex.quote(subject.order)} --format peft "
        f"--base-name {shlex.quote(subject.base_name)} --out {subject.name}",
        "serve": shlex.join(serve),
        "call": call,
        "request": request,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _messages(subject: Subject) -> list[dict[str, str]]:
    return [{"role": "user", "content": subject.prompt or "Hello!"}]


def _sampling(subject: Subject) -> dict[str, Any]:
    sample = subject.parts[0].manifest.sample
    return {"max_tokens": sample.max_new_tokens, "temperature": 0, "seed": sample.seed}


def _refuse_dora(adapter: LoraAdapter, server: str) -> None:
    if adapter.is_dora:
        raise LoraregError(
            f"{server} cannot serve a DoRA",
            why="it adds up @ down and knows no magnitudes",
            fix="train it with lora.use_dora: false; or use it here: lorareg generate",
        )
