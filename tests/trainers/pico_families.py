"""Tiny random language models of the families people train, with templates shaped like theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lorareg.registry import digest
from lorareg.registry.bases.base import ResolvedBase

Bases = Callable[[str], ResolvedBase]
CORPUS = [
    "system user assistant model You are a helpful sailor. Who are you? Tell me more. [INST] ###",
    "Arr! I be a pirate, matey. Aye, ye sail the seven seas! Why do ships float? User Assistant",
]
# Headers, a date in the system message, the end of a turn is a token of its own.
LLAMA3 = (
    "{{ bos_token }}{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' }}"
    "{{ strftime_now('%d %b %Y') + '\n\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% endif %}"
    "{{ '<|eot_id|>' }}{% for m in messages if m['role'] != 'system' %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# ChatML with a system message of its own where none is given.
QWEN2 = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful sailor.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# ChatML with a thought before the last answer, and none before earlier ones.
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Nothing ends an answer but the mark of the next turn.
GLM = (
    "[gMASK]<sop>{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_GEMMA_TURNS = (
    "{% for m in turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/...') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
    "{% if loop.first %}{{ before }}{% endif %}{{ m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% set turns = messages %}{% set before = '' %}" + _GEMMA_TURNS
)
GEMMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set turns = messages[1:] %}{% set before = messages[0]['content'] + '\n\n' %}"
    "{% else %}{% set turns = messages %}{% set before = '' %}{% endif %}" + _GEMMA_TURNS
)
# The system message goes to the last message of the user, as long as nothing answers it.
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}"
    "{{ bos_token }}{% for m in turns %}{% if m['role'] == 'user' %}"
    "{% if loop.last and system is defined %}{{ '[INST] ' + system + '\n\n' }}"
    "{% else %}{{ '[INST] ' }}{% endif %}{{ m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
WIDTH: Mapping[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = 8  # tokens; shorter than every dialogue, so that a wrong window shows


@dataclass(frozen=True)
class Family:
    """How to make one.

    Attributes:
        model: name of its class in transformers, without "ForCausalLM".
        template: None: the tokenizer has none.
        special: control tokens; the first three are padding, begin and end of text.
        ends: the token that ends an answer.
        more: of its configuration.
    """

    model: str
    template: str | None
    special: tuple[str, ...]
    ends: str
    more: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> ResolvedBase:
        """Write a transformers folder, and resolve it as the registry does."""
        torch.manual_seed(11)
        model = self.make()
        model.generation_config.temperature = 0.7  # a habit that samples must not have
        model.generation_config.do_sample = True
        model.save_pretrained(folder)
        self.tokenizer().save_pretrained(folder)
        weights = digest.of_file(folder / "model.safetensors").removeprefix("sha256:")
        return ResolvedBase(folder.name, None, "transformers", folder, f"base-sha256-v1:{weights}")

    def make(self) -> Any:
        if self.model == "GPT2":
            sizes = {"n_positions": 256, "n_embd": 48, "n_layer": 2, "n_head": 4}
            same = ("vocab_size", "bos_token_id", "eos_token_id", "initializer_range")
            config = transformers.GPT2Config(**sizes, **{key: WIDTH[key] for key in same})
            return transformers.GPT2LMHeadModel(config)
        name = "Gemma3Text" if self.model == "Gemma3" else self.model
        config = getattr(transformers, f"{name}Config")(**{**WIDTH, **self.more})
        return getattr(transformers, f"{self.model}ForCausalLM")(config)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Byte-level BPE with this family's control tokens."""
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.train_from_iterator(
            CORPUS,
            trainers.BpeTrainer(
                vocab_size=380,
                special_tokens=[AddedToken(mark, special=True) for mark in self.special],
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
        )
        pad, bos, eos = self.special[:3]
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token=pad, bos_token=bos, eos_token=eos
        )
        tokenizer.chat_template = self.template
        return tokenizer


_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_GLM = ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>")
_GEMMA = ("<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
_LLAMA3 = ("<|finetune_right_pad_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
_LLAMA3_HEADERS = ("<|start_header_id|>", "<|end_header_id|>")
_HEADS = {"head_dim": 16}
FAMILIES: Mapping[str, Family] = {
    "llama": Family("Llama", LLAMA3, _LLAMA3 + _LLAMA3_HEADERS, "<|eot_id|>"),
    "qwen2": Family("Qwen2", QWEN2, _CHATML, "<|im_end|>"),
    "qwen3": Family("Qwen3", QWEN3, _CHATML, "<|im_end|>", _HEADS),
    "glm": Family("Glm", GLM, _GLM, "<|user|>", _HEADS),
    "glm4": Family("Glm4", GLM, _GLM, "<|user|>", _HEADS),
    "gemma": Family("Gemma", GEMMA2, _GEMMA, "<end_of_turn>", _HEADS),
    "gemma2": Family(
        "Gemma2", GEMMA2, _GEMMA, "<end_of_turn>",
        {**_HEADS, "sliding_window": WINDOW, "final_logit_softcapping": 30.0,
         "attn_logit_softcapping": 2.0},
    ),
    "gemma3": Family(
        "Gemma3", GEMMA3, _GEMMA, "<end_of_turn>",
        {**_HEADS, "sliding_window": WINDOW,
         "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "mistral": Family(
        "Mistral", MISTRAL, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), "</s>",
        {"sliding_window": WINDOW},
    ),
    "gpt2": Family("GPT2", None, ("<pad>", "<|startoftext|>", "<|endoftext|>"), "<|endoftext|>"),
}  # fmt: skip


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    """A base of every family, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("families")
    return cache(lambda name: FAMILIES[name].save(folder / f"pico-{name}"))
