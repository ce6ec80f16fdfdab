"""Captioning models small enough to make in a second: the real classes, random weights.

Every maker writes a folder as the Hub would hold it. The weights are large enough that what a model
says depends on the picture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AddedToken,
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

TEXT = (
    "a an the of on in and red green blue yellow white black grey round square disc box ball star "
    "small large bright dark photo drawing person smiling holding standing near under table wall"
)
COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 220)}
SHAPES = ("circle", "square", "triangle")
QWEN_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_CHAT = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
VOCABULARY = 400  # tokens of a byte-level BPE
QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>",
                "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]  # fmt: skip
QWEN_TOKENS = {"vision_start_token_id": 3, "vision_end_token_id": 4, "image_token_id": 5,
               "video_token_id": 6}  # fmt: skip
QWEN_TEXT = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48,
             "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
             "max_position_embeddings": 1024, "bos_token_id": 0, "eos_token_id": 2,
             "pad_token_id": 0}  # fmt: skip


def picture(
    colour: tuple[int, int, int], shape: str, shift: int = 0, side: int = 48
) -> Image.Image:
    """A shape of one colour on white, a little beside the middle."""
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    box = (8 + shift, 10 - shift, side - 12 + shift, side - 10 - shift)
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    else:
        left, top, right, bottom = box
        draw.polygon([(left, bottom), (right, bottom), ((left + right) / 2, top)], fill=colour)
    return image


def clip_pixels(side: int) -> Any:
    """CLIP's preprocessing at another size, by Pillow."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    size = {"height": side, "width": side}
    return CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False)


def byte_level(special: list[str]) -> Tokenizer:
    """Byte-level BPE, as GPT-2, OPT, BART, CLIP and Qwen have it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT, "What does the image describe?"] * 3, trainer)
    return backend


def save(folder: Path, model: PreTrainedModel, processor: Any) -> Path:
    """Write a model and its processor, or the processor's parts."""
    model.save_pretrained(folder)
    for part in processor if isinstance(processor, list) else [processor]:
        part.save_pretrained(folder)
    return folder


def shaken(model: PreTrainedModel, scale: float, seed: int = 11) -> PreTrainedModel:
    """Matrices with larger random numbers: so small a model says the same of all pictures else."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, scale)
    return model.eval()


def make_blip(folder: Path) -> Path:
    """BLIP with a tokenizer of words."""
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    vocabulary = {word: number for number, word in enumerate([*special, *TEXT.split()])}
    tokenizer = BertTokenizer(vocab=vocabulary, bos_token="[DEC]")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2}
    config = BlipConfig(
        text_config={
            **sizes, **heads, "vocab_size": len(vocabulary), "encoder_hidden_size": 32,
            "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0,
            "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0, "is_decoder": True,
        },
        vision_config={**sizes, **heads, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        image_text_hidden_size=16,
    )  # fmt: skip
    images = BlipImageProcessorPil(size={"height": 32, "width": 32})
    model = shaken(BlipForConditionalGeneration(config), 0.4)
    return save(folder, model, BlipProcessor(images, tokenizer))


def make_blip2(folder: Path) -> Path:
    """BLIP-2 over a small OPT."""
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    backend = byte_level(["<pad>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="</s>", eos_token="</s>", pad_token="<pad>"
    )
    images = BlipImageProcessorPil(size={"height": 32, "width": 32})
    processor = Blip2Processor(images, tokenizer, num_query_tokens=4)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = Blip2Config(
        vision_config={**sizes, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        qformer_config={**sizes, "num_attention_heads": 2, "encoder_hidden_size": 32},
        text_config={
            "model_type": "opt", "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48,
            "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(tokenizer),
            "max_position_embeddings": 96, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0,
            "dropout": 0.0,
        },
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return save(folder, shaken(Blip2ForConditionalGeneration(config), 0.3), processor)


def make_florence(folder: Path) -> Path:
    """Florence-2 over a small BART; its vision tower halves the side five times."""
    backend = byte_level(["<s>", "<pad>", "</s>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    tokenizer.add_tokens([AddedToken("<image>", special=True)], special_tokens=True)
    images = clip_pixels(64)
    images.image_seq_length = 5  # 64 / 32 squared, and their mean
    vocabulary = len(tokenizer)
    config = Florence2Config(
        vision_config={
            "depths": [1, 1, 1, 1], "embed_dim": [16, 16, 32, 32], "num_heads": [2, 2, 2, 2],
            "num_groups": [2, 2, 2, 2], "window_size": 4, "projection_dim": 32,
        },
        text_config={
            "model_type": "bart", "vocab_size": vocabulary, "d_model": 32, "encoder_layers": 1,
            "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
            "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 128,
            "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
            "forced_eos_token_id": None, "forced_bos_token_id": None, "dropout": 0.0,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = shaken(Florence2ForConditionalGeneration(config), 0.5, seed=1)
    model.generation_config.num_beams = 3  # as published; greedy decoding has to win over it
    return save(
        folder,
        model,
        Florence2Processor(images, tokenizer, post_processor_config={"pure_text": {}}),
    )


def make_qwen2(folder: Path) -> Path:
    """Qwen2-VL as it is published: its processor also reads videos, which takes torchvision."""
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        text_config={**QWEN_TEXT, "rope_parameters": rope},
        vision_config={**vision, "patch_size": 8},
        **QWEN_TOKENS,
    )
    return _save_qwen(folder, Qwen2VLForConditionalGeneration(config), "Qwen2VLProcessor")


def make_qwen3(folder: Path) -> Path:
    """Qwen3-VL, which hands features of several depths to its language model."""
    vision = {"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 2,
              "intermediate_size": 48, "num_position_embeddings": 64,
              "deepstack_visual_indexes": [0]}  # fmt: skip
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    config = Qwen3VLConfig(
        text_config={**QWEN_TEXT, "head_dim": 16, "rope_parameters": rope},
        vision_config={**vision, "patch_size": 8},
        **QWEN_TOKENS,
    )
    return _save_qwen(folder, Qwen3VLForConditionalGeneration(config), "Qwen3VLProcessor")


def _save_qwen(folder: Path, model: PreTrainedModel, processor: str) -> Path:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(QWEN_SPECIAL), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = QWEN_CHAT
    images = Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, size={"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    )
    save(folder, shaken(model, 0.3), [images, tokenizer])
    path = folder / "preprocessor_config.json"
    published = {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "processor_class": processor,
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), **published}))
    return folder


def make_llava(folder: Path) -> Path:
    """LLaVA: a chat model of another family, with its own rules for pictures in a text."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(["</s>", "<image>"]), eos_token="</s>", pad_token="</s>"
    )
    tokenizer.chat_template = LLAVA_CHAT
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 2}  # fmt: skip
    config = LlavaConfig(
        vision_config={**sizes, "model_type": "clip_vision_model", "image_size": 32,
                       "patch_size": 8, "projection_dim": 16},
        text_config={**sizes, "model_type": "llama", "vocab_size": VOCABULARY,
                     "num_key_value_heads": 2, "max_position_embeddings": 512, "eos_token_id": 0,
                     "pad_token_id": 0},
        image_token_index=1, vision_feature_layer=-1,
    )  # fmt: skip
    processor = LlavaProcessor(
        clip_pixels(32), tokenizer, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip
    return save(folder, shaken(LlavaForConditionalGeneration(config), 0.3), processor)
