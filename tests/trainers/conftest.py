"""Language models small enough to make in a second: random weights, a tokenizer of their own."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from lorareg.registry import digest
from lorareg.registry.bases.base import ResolvedBase
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord
from tests.trainers.pico_families import bases  # noqa: F401  (a fixture, found by name)
from tests.trainers.pico_images import (  # noqa: F401  (fixtures, found by name)
    case,
    pico_sd1,
    pico_sd2,
    pico_sdxl,
    pictures,
)

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = [
    "system user assistant You are a helpful sailor. Who are you? What is the capital of France?",
    "Arr! I be a pirate, matey. The capital of France be Paris, aye. Ye sail the seven seas!",
    "Tell me more. Why do ships float? Because they weigh less than the water they push aside.",
]


def make_tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Byte-level BPE of some 350 tokens, with the three special tokens of ChatML."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=350, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=special[1], eos_token=special[2], pad_token=special[0]
    )
    tokenizer.chat_template = template
    return tokenizer


def save(model: PreTrainedModel, folder: Path) -> ResolvedBase:
    """A transformers folder as the registry resolves it."""
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    weights = digest.of_file(folder / "model.safetensors").removeprefix("sha256:")
    return ResolvedBase(folder.name, None, "transformers", folder, f"base-sha256-v1:{weights}")


def make_llama() -> LlamaForCausalLM:
    torch.manual_seed(7)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=350,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.2,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            tie_word_embeddings=False,
        )
    )


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Many test processes share few cores: threads would mostly wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pico_llama(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    """Two layers, grouped-query attention, head of its own."""
    return save(make_llama(), tmp_path_factory.mktemp("models") / "pico-llama")


@pytest.fixture(scope="session")
def pico_gpt2(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    """Conv1D instead of Linear, learned positions, tied head, dropout."""
    torch.manual_seed(8)
    config = GPT2Config(vocab_size=350, n_positions=128, n_embd=48, n_layer=2, n_head=4)
    return save(GPT2LMHeadModel(config), tmp_path_factory.mktemp("models") / "pico-gpt2")


@pytest.fixture(scope="session")
def pico_gemma2(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    """Logits capped, by so small a bound that a plain head would be far off."""
    torch.manual_seed(9)
    config = Gemma2Config(
        vocab_size=350,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        final_logit_softcapping=2.0,
        initializer_range=0.3,
    )
    return save(Gemma2ForCausalLM(config), tmp_path_factory.mktemp("models") / "pico-gemma2")


@pytest.fixture(scope="session")
def pico_gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResolvedBase, LlamaForCausalLM]:
    """A llama GGUF with 8-bit blocks, and the model its weights stand for."""
    path = tmp_path_factory.mktemp("models") / "pico.Q8_0.gguf"
    model = make_llama()
    write_gguf(path, model, make_tokenizer())
    sha256 = digest.of_file(path).removeprefix("sha256:")
    return ResolvedBase("pico.gguf", None, "gguf", path, f"base-sha256-v1:{sha256}"), model


def write_gguf(path: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write what llama.cpp's converter writes; ``model`` gets the rounded weights back.

    Source: llama.cpp, convert_hf_to_gguf.py
    """
    writer = gguf.GGUFWriter(path, "llama")
    add_shape(writer, model.config)
    add_vocabulary(writer, tokenizer)
    add_weights(writer, model)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_shape(writer: gguf.GGUFWriter, config: LlamaConfig) -> None:
    writer.add_name("pico")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {token["id"] for token in bpe["added_tokens"]}
    tokens = sorted(bpe["model"]["vocab"], key=bpe["model"]["vocab"].get)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([control if i in special else normal for i in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in bpe["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def add_weights(writer: gguf.GGUFWriter, model: LlamaForCausalLM) -> None:
    """Matrices in blocks of 8 bits; rotary pairs of q and k interleaved, as llama.cpp has them."""
    config, q8 = model.config, gguf.GGMLQuantizationType.Q8_0
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        stem = name.removesuffix(".weight")
        if tensor.ndim == 1:
            writer.add_tensor(f"{names.get_name(stem)}.weight", tensor.numpy())
            continue
        blocks = gguf.quants.quantize(tensor.numpy(), q8)
        tensor.copy_(torch.from_numpy(gguf.quants.dequantize(blocks, q8)))
        if count := heads.get(stem.rpartition(".")[2]):
            rows = tensor.numpy().reshape(count, 2, -1, tensor.shape[1]).swapaxes(1, 2)
            blocks = gguf.quants.quantize(rows.reshape(tensor.shape), q8)
        writer.add_tensor(f"{names.get_name(stem)}.weight", blocks, raw_dtype=q8)


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """CPU in full precision, with a cache of its own."""
    return Runtime(device="cpu", dtype="float32", threads=1, cache=tmp_path / "cache")


@pytest.fixture(scope="session")
def dialogues() -> tuple[DialogueRecord, ...]:
    """Short, long, many turns, with a system message, with characters of several bytes."""

    def record(number: int, *turns: tuple[str, str]) -> DialogueRecord:
        messages = tuple(Message(role, content) for role, content in turns)
        return DialogueRecord(f"talk.jsonl:{number}", messages)

    return (
        record(1, ("user", "Who are you?"), ("assistant", "Arr!")),
        record(
            2,
            ("system", "You are a helpful sailor."),
            ("user", "What is the capital of France?"),
            ("assistant", "The capital of France be Paris, aye."),
        ),
        record(
            3,
            ("user", "Tell me more."),
            ("assistant", "Ye sail!\n"),
            ("user", "Why do ships float?"),
            ("assistant", "你好 ☠ Because they weigh less."),
        ),
    )
