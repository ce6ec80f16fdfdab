"""Pictures from a pipeline, always the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lorareg.registry.image_training import ImageTraining
from lorareg.registry.sampling import Sampling
from lorareg.trainers.core.task import Sample


def draw(
    pipeline: Any,
    prompts: Sequence[str],
    seed: int,
    sampling: Sampling,
    training: ImageTraining,
    *,
    negative: str = "",
) -> list[Sample]:
    """Generate one picture a prompt; equal seeds start from equal noise, whatever the prompt.

    Guidance is classifier-free, or what a distilled Flux is told, as the pipeline has it.

    Args:
        pipeline: of diffusers.
        prompts: one a picture.
        seed: of the noise.
        sampling: steps and guidance.
        training: side of the picture; and whether the adapter needs pure noise to start from.
        negative: prompt of what to guide away from.
    """
    if training.zero_terminal_snr:
        _start_from_pure_noise(pipeline)
    side = training.resolution
    samples = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            picture = pipeline(
                prompt,
                height=side,
                width=side,
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                generator=generator,
                **({"negative_prompt": negative} if negative else {}),
            ).images[0]
        samples.append(Sample(prompt, seed, picture))
    return samples


def _start_from_pure_noise(pipeline: Any) -> None:
    """Sample as ``train.zero_terminal_snr`` trained (arXiv 2305.08891, section 3)."""
    from diffusers import DDIMScheduler

    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
