"""An adapter or a composition in the words of the programs that draw with it.

Nothing here holds weights: a prompt for A1111, a workflow for ComfyUI in its API form, lines of
Python for diffusers. They name files as ``lorareg export REF --format kohya`` or ``diffusers``
writes them. What one of them cannot say is refused, not left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lorareg.errors import LoraregError
from lorareg.weights.exporting.subject import Subject, component_weights
from lorareg.weights.members import Component

STEPS_FIX = "leave {...} out; or use it here: lorareg generate"


def a1111(subject: Subject) -> str:
    """A prompt line with ``<lora:name:weight>`` and the triggers, and the negative prompt.

    One number holds for denoiser and text encoders; ``te=`` and ``unet=`` set them apart.
    Source: AUTOMATIC1111, extensions-builtin/Lora/extra_networks_lora.py.
    """
    tags = []
    for part in subject.parts:
        te, unet = _weights(part, "A1111's prompt")
        amount = _number(te) if te == unet else f"te={_number(te)}:unet={_number(unet)}"
        tags.append(f"<lora:{part.asset.name}:{amount}>")
    words = subject.prompt
    missing = [word for word in subject.triggers if word not in words]
    lines = [", ".join(filter(None, [words, *missing])) + " " + "".join(tags)]
    if subject.negative_prompt:
        lines.append(f"Negative prompt: {subject.negative_prompt}")
    sample = subject.parts[0].manifest.sample
    side = subject.resolution
    lines.append(
        f"Steps: {sample.steps}, CFG scale: {_number(sample.guidance)}, Seed: {sample.seed}, "
        f"Size: {side}x{side}"
    )
    return "\n".join(lines).strip() + "\n"


def comfyui(subject: Subject) -> str:
    """A workflow as ComfyUI's ``/prompt`` takes it: one LoraLoader behind the other.

    Source: comfyanonymous/ComfyUI, nodes.py (LoraLoader, KSampler), script_examples.
    """
    checkpoint = subject.base_name.rpartition("/")[2].removesuffix(".safetensors")
    graph: dict[str, Any] = {
        "1": _node("CheckpointLoaderSimple", ckpt_name=f"{checkpoint}.safetensors")
    }
    model: list[Any] = ["1", 0]
    clip: list[Any] = ["1", 1]
    for part in subject.parts:
        te, unet = _weights(part, "ComfyUI's LoraLoader")
        number = str(len(graph) + 1)
        graph[number] = _node(
            "LoraLoader", model=model, clip=clip, lora_name=f"{part.asset.name}.safetensors",
            strength_model=unet, strength_clip=te,
        )  # fmt: skip
        model, clip = [number, 0], [number, 1]
    graph |= _drawing(subject, model, clip, len(graph) + 1)
    return json.dumps(graph, indent=2, ensure_ascii=False) + "\n"


def _drawing(subject: Subject, model: list[Any], clip: list[Any], first: int) -> dict[str, Any]:
    """Prompts, sampler and picture, numbered from ``first``; node 1 is the checkpoint."""
    sample, side = subject.parts[0].manifest.sample, subject.resolution
    numbers = [str(first + place) for place in range(6)]
    nodes = [
        _node("CLIPTextEncode", clip=clip, text=_prompt(subject)),
        _node("CLIPTextEncode", clip=clip, text=subject.negative_prompt),
        _node("EmptyLatentImage", width=side, height=side, batch_size=1),
        _node(
            "KSampler", model=model, positive=[numbers[0], 0], negative=[numbers[1], 0],
            latent_image=[numbers[2], 0], seed=sample.seed, steps=sample.steps,
            cfg=sample.guidance, sampler_name="euler", scheduler="normal", denoise=1.0,
        ),
        _node("VAEDecode", samples=[numbers[3], 0], vae=["1", 2]),
        _node("SaveImage", images=[numbers[4], 0], filename_prefix=subject.name),
    ]  # fmt: skip
    return dict(zip(numbers, nodes, strict=True))


def snippet(subject: Subject) -> str:
    """Lines of Python: every member on a diffusers pipeline at its weight, or a PEFT folder."""
    if subject.composition.task == "text-generation":
        return _peft_lines(subject)
    names, weights, lines = [], [], []
    for part in subject.parts:
        te, unet = _weights(part, "set_adapters")
        name = part.asset.name.replace("-", "_")
        names.append(name)
        lines.append(
            f'pipe.load_lora_weights(".", weight_name="{part.asset.name}.diffusers.safetensors", '
            f'adapter_name="{name}")'
        )
        weights.append(_number(unet) if te == unet else _by_component(part, te, unet))
    sample = subject.parts[0].manifest.sample
    drawn = [
        f"    {_quoted(_prompt(subject))},",
        *(
            [f"    negative_prompt={_quoted(subject.negative_prompt)},"]
            if subject.negative_prompt
            else []
        ),
        f"    num_inference_steps={sample.steps}, guidance_scale={_number(sample.guidance)},",
        f"    height={subject.resolution}, width={subject.resolution},",
        f"    generator=torch.Generator().manual_seed({sample.seed}),",
    ]
    return "\n".join([
        "import torch",
        "from diffusers import DiffusionPipeline",
        "",
        f"pipe = DiffusionPipeline.from_pretrained({_quoted(subject.base_name)})",
        *lines,
        f"pipe.set_adapters({json.dumps(names)}, [{', '.join(weights)}])",
        "image = pipe(",
        *drawn,
        ").images[0]",
        f'image.save("{subject.name}.png")',
    ]) + "\n"  # fmt: skip


def _peft_lines(subject: Subject) -> str:
    base, name = _quoted(subject.base_name), subject.name
    return "\n".join([
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({base})",
        f"model = AutoModelForCausalLM.from_pretrained({base})",
        f"# the folder of: lorareg export '{subject.order}' --format peft "
        f"--out {name}",
        f'model = PeftModel.from_pretrained(model, "{name}")',
        f'messages = [{{"role": "user", "content": {_quoted(subject.prompt or "Hello!")}}}]',
        'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, '
        'return_tensors="pt", return_dict=True)',
        f"reply = model.generate(**inputs, max_new_tokens="
        f"{subject.parts[0].manifest.sample.max_new_tokens}, do_sample=False)",
        'print(tokenizer.decode(reply[0, inputs["input_ids"].shape[1]:], '
        'skip_special_tokens=True))',
    ]) + "\n"  # fmt: skip


def _weights(part: Component, where: str) -> tuple[float, float]:
    """Of the text encoders and of the denoiser.

    Raises:
        LoraregError: blocks or steps have weights of their own.
    """
    found = component_weights(part)
    if found is None:
        raise LoraregError(
            f"{where} cannot say {part.asset}:{part.strength}",
            why="it has one weight for the denoiser and one for the text encoders, all the time",
            fix=STEPS_FIX
            if part.windows
            else f"merge it instead: lorareg export EXPR --format kohya; or {STEPS_FIX}",
        )
    return found["te"], found["unet"]


def _by_component(part: Component, te: float, unet: float) -> str:
    """Whole components by name: within one, diffusers would scale the attention alone."""
    from lorareg.weights import members

    components = sorted({name.partition(".")[0] for name in members.read(part).layers})
    scales = {c: te if c.startswith("text_encoder") else unet for c in components}
    return json.dumps(scales)


def _prompt(subject: Subject) -> str:
    missing = [word for word in subject.triggers if word not in subject.prompt]
    return ", ".join(filter(None, [subject.prompt, *missing]))


def _node(kind: str, **inputs: Any) -> Mapping[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _number(value: float) -> str:
    return f"{value:g}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
