"""Keys of a manifest that its base cannot follow: all named before anything is encoded."""

from __future__ import annotations

from collections.abc import Iterator

from lorareg.errors import TrainingError, listed
from lorareg.registry.image_training import ImageTraining
from lorareg.trainers.image.noise import prediction_of
from lorareg.trainers.image.pipelines import DiffusionBase

NO_GUIDANCE = 1.0  # default of train.guidance_embed


def refuse_misfits(
    base: DiffusionBase, settings: ImageTraining, sizes: dict[str, tuple[int, int]]
) -> None:
    """Refuse settings that mean nothing for a base, or that its denoiser cannot take.

    Args:
        base: the frozen model.
        settings: of the manifest.
        sizes: width and height of each record.

    Raises:
        TrainingError: names every key, and why.
    """
    by_process = _of_flow if base.architecture.process == "flow" else _of_diffusion
    problems = [*by_process(base, settings), *_of_sizes(base, sizes)]
    if problems:
        title = base.architecture.title
        raise TrainingError(
            f"base {base.source.model!r} ({title}) does not fit the manifest",
            why="\n" + listed([f"{key}: {why}" for key, why in problems], limit=100),
            fix="remove or correct these keys in the manifest",
        )


def _of_flow(base: DiffusionBase, settings: ImageTraining) -> Iterator[tuple[str, str]]:
    if settings.min_snr_gamma is not None:
        yield (
            "train.min_snr_gamma",
            "min-SNR weighs the steps of a diffusion process; flow matching weighs its noise "
            "levels by how often train.timesteps draws them",
        )
    if settings.zero_terminal_snr:
        yield "train.zero_terminal_snr", "flow matching ends at pure noise already"
    tells = base.denoiser_config().get("guidance_embeds", False)
    if settings.guidance_embed != NO_GUIDANCE and not tells:
        yield "train.guidance_embed", "this base is not told its guidance (guidance_embeds is off)"


def _of_diffusion(base: DiffusionBase, settings: ImageTraining) -> Iterator[tuple[str, str]]:
    if settings.timesteps is not None:
        yield "train.timesteps", "it is for flow matching; here every timestep is equally likely"
    if settings.guidance_embed != NO_GUIDANCE:
        yield "train.guidance_embed", "it is for distilled Flux bases"
    prediction = prediction_of(base.scheduler_config())
    if settings.zero_terminal_snr and prediction != "v_prediction":
        yield (
            "train.zero_terminal_snr",
            f"at pure noise the noise is no riddle: it takes a base that predicts v, and this one "
            f"predicts {prediction}",
        )


def _of_sizes(base: DiffusionBase, sizes: dict[str, tuple[int, int]]) -> Iterator[tuple[str, str]]:
    if base.architecture.patch == 1:
        return
    grid = base.grid
    uneven = sorted({f"{w}x{h}" for w, h in sizes.values() if w % grid or h % grid})
    if uneven:
        yield (
            "train.resolution",
            f"sides are multiples of {grid} pixels here (also train.buckets.step), not "
            + ", ".join(uneven[:5]),
        )
    rows = base.denoiser_config().get("pos_embed_max_size")
    large = sorted({f"{w}x{h}" for w, h in sizes.values() if rows and max(w, h) > rows * grid})
    if large:
        yield (
            "train.resolution",
            f"its transformer has places for sides up to {rows * grid} pixels, not "
            + ", ".join(large[:5]),
        )
