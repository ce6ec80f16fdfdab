"""A transformers model and its processor from a folder: safetensors, Pillow, nobody's code.

Image processors of transformers 5 come in two kinds, torchvision and Pillow. Here it is always
Pillow, so that a machine with torchvision writes the same captions as one without. A processor that
also reads videos cannot be built at all without torchvision; it is built for pictures only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.trainers.data.label.captioner import Model
from lorareg.trainers.data.label.wording import tidy, whole

if TYPE_CHECKING:
    import torch

OFFLINE = {"local_files_only": True, "trust_remote_code": False}
READABLE = ("image_processor", "tokenizer")


def load_model(model: Model, kind: str) -> Any:
    """The weights as a transformers class, for inference; bfloat16 on CUDA, else float32.

    Raises:
        InvalidFileError: they are broken, or belong to another class.
    """
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with _explained(model, "weights"), _without_bars():
        loaded, report = getattr(transformers, kind).from_pretrained(
            str(model.path),
            dtype=torch.bfloat16 if device == "cuda" else torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **OFFLINE,
        )
    if missing := sorted(report["missing_keys"]):
        raise InvalidFileError(
            f"model {model.name} is incomplete",
            why=f"{len(missing)} tensors of {kind} are not in its weights, first {missing[0]}; "
            "they would be random, and so would its captions",
            fix="take the model in transformers' own format; for Florence-2 that is "
            "florence-community/Florence-2-base, not microsoft/Florence-2-base",
        )
    return loaded.eval().to(device)


def load_parts(model: Model) -> tuple[Any, Any]:
    """Image processor and tokenizer."""
    import transformers

    with _explained(model, "image processor or tokenizer"), _without_bars():
        images = transformers.AutoImageProcessor.from_pretrained(
            str(model.path), backend="pil", **OFFLINE
        )
        return images, transformers.AutoTokenizer.from_pretrained(str(model.path), **OFFLINE)


def load_processor(model: Model) -> Any:
    """Image processor and tokenizer joined by the model's own rules for pictures in a text."""
    from transformers import AutoConfig
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    parts = dict(zip(READABLE, load_parts(model), strict=True))
    with _explained(model, "processor"):
        kind = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(str(model.path), **OFFLINE))]
        needed = [name for name in kind.get_attributes() if name != "video_processor"]
        reader: Any = type(
            kind.__name__, (kind,), {"get_attributes": classmethod(lambda _: needed)}
        )
        settings, _ = kind.get_processor_dict(str(model.path), local_files_only=True)
        return reader.from_args_and_dict([parts[name] for name in needed], settings)


def generate(loaded: Any, inputs: Mapping[str, Any], max_tokens: int) -> torch.Tensor:
    """Generated ids (B, T): the likeliest token each time, so a picture always gets the same text.

    Args:
        loaded: a model.
        inputs: tensors of its processor, on the CPU.
        max_tokens: at which a text is cut.

    Raises:
        LoraregError: the GPU's memory is too small.
    """
    import torch

    there = {
        name: value.to(loaded.device, loaded.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
    }
    try:
        with torch.inference_mode():
            ids: torch.Tensor = loaded.generate(
                **there,
                max_new_tokens=max_tokens,
                do_sample=False,
                num_beams=1,
                early_stopping=False,
            )
    except torch.OutOfMemoryError as error:
        raise LoraregError(
            "the GPU's memory is too small",
            why=str(error).partition(". ")[0],
            fix="run the command again with a smaller --batch-size, or a smaller model; what is "
            "labelled stays",
        ) from error
    return ids.cpu()


def read(tokenizer: Any, ids: torch.Tensor) -> list[str]:
    """Texts of generated ids (B, T); one that was cut ends with its last whole sentence."""
    special = set(tokenizer.all_special_ids)
    texts = [tidy(text) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    return [
        text if row[-1] in special else whole(text)
        for row, text in zip(ids.tolist(), texts, strict=True)
    ]


@contextmanager
def _explained(model: Model, part: str) -> Iterator[None]:
    """Say of which model and which part of it the library complains."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, AttributeError,
            SafetensorError) as error:  # fmt: skip
        lines = str(error).strip().splitlines()
        raise InvalidFileError(
            f"model {model.name}: its {part} cannot be loaded",
            why=f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:300],
            fix="download it again, whole; or take another: BLIP, BLIP-2, Florence-2, a Qwen-VL "
            "class chat model, CLIP with a vocabulary, or a WD14 .onnx tagger",
        ) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Transformers would draw over the bar of the command line, and hint at torchvision."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield
