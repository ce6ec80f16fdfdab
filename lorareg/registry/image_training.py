"""The ``train`` block of a text-to-image manifest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from lorareg.registry.fields import DatasetPath, Text
from lorareg.registry.paths import inside
from lorareg.registry.schema import Later, Strict
from lorareg.registry.training import Training


class Buckets(Strict):
    """Aspect buckets instead of squares: pictures keep their shape (see ``trainers.data.copies``).

    Attributes:
        step: sides are multiples of this many pixels.
        upscale: whether a picture smaller than its bucket is enlarged; else it goes to the largest
            bucket of its shape that it fills.
    """

    step: Annotated[int, Field(ge=8, le=256, multiple_of=8)] = 64
    upscale: bool = False


class Tags(Strict):
    """Captions that are lists of tags, reordered and thinned while training.

    Attributes:
        separator: between two tags.
        keep_first: tags at the beginning that stay where they are (the trigger word).
        shuffle: draw a new order of the others.
        dropout: share of the others that is left out.
        variants: texts drawn of each caption before training, so that their embeddings are cached.
    """

    separator: Text = ","
    keep_first: Annotated[int, Field(ge=0, le=100)] = 1
    shuffle: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    variants: Annotated[int, Field(ge=1, le=64)] = 8


class Timesteps(Strict):
    """How noise levels of a flow-matching base are drawn (arXiv 2403.03206, section 3.1).

    Attributes:
        sampling: "uniform", or "logit-normal" with ``mean`` and ``std``.
        shift: moves the levels towards noise, as large pictures need; None takes the base's own.
    """

    sampling: Literal["uniform", "logit-normal"] = "logit-normal"
    mean: Annotated[float, Field(ge=-5, le=5)] = 0.0
    std: Annotated[float, Field(gt=0, le=5)] = 1.0
    shift: Annotated[float | None, Field(gt=0, le=100)] = None


class Prior(Strict):
    """Prior preservation: pictures of the class keep the base's idea of it (arXiv 2208.12242).

    Attributes:
        path: a folder of the registry with pictures of the class, with captions or without.
        caption: of the pictures that have none ("a person").
        weight: of the class picture's loss, one beside each picture of the dataset.
    """

    path: DatasetPath
    caption: Text
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0


class MaskedLoss(Strict):
    """Learn only what a mask shows: white counts fully, black as much as ``outside``.

    The weights of a picture are scaled to a mean of 1, so that a picture counts as much as any
    other, however small its mask is, and a learning rate means the same with masks and without.
    (kohya's scripts do not scale: half a mask is half a learning rate there.)

    Attributes:
        source: "alpha", or a folder within the dataset with one picture of the same name each.
        outside: weight of the loss where the mask is black.
    """

    source: Annotated[Text, AfterValidator(inside)] = "alpha"
    outside: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def folder(self) -> str | None:
        """Where the masks are within the dataset; None if they are the alpha channels."""
        return None if self.source == "alpha" else self.source


class ImageTraining(Training):
    """Training on pictures.

    Attributes:
        resolution: side of the square training pictures in pixels, a multiple of 8; with buckets
            the side of a square of the same area.
        buckets: shapes other than squares; None cuts the centre out.
        flip: show every picture mirrored half of the time.
        caption_dropout: share of steps that see a picture without its caption, which keeps
            classifier-free guidance working (arXiv 2207.12598).
        tags: shuffled and thinned captions; None takes each caption as it is.
        min_snr_gamma: gamma of min-SNR loss weighting (arXiv 2303.09556); None switches it off.
        noise_offset: standard deviation of a shift of the whole picture's noise, which lets very
            dark and very bright pictures be learned.
        zero_terminal_snr: rescale the noise schedule so that its last step is pure noise (arXiv
            2305.08891); for bases that predict v.
        timesteps: noise levels of flow-matching bases (SD3, Flux); None takes logit-normal.
        guidance_embed: guidance that a distilled base (Flux dev) is told while training.
        prior: prior preservation; None leaves it out.
        masked_loss: None counts every pixel.
        text_encoder_learning_rate: peak for ``lora.text_encoder``; None takes learning_rate.
    """

    resolution: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 512
    buckets: Annotated[Buckets | None, Later()] = None
    flip: Annotated[bool, Later()] = False
    caption_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    tags: Annotated[Tags | None, Later()] = None
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    noise_offset: Annotated[float, Field(ge=0, le=1), Later()] = 0.0
    zero_terminal_snr: Annotated[bool, Later()] = False
    timesteps: Annotated[Timesteps | None, Later()] = None
    guidance_embed: Annotated[float, Field(ge=0, le=20), Later()] = 1.0
    prior: Annotated[Prior | None, Later()] = None
    masked_loss: Annotated[MaskedLoss | None, Later()] = None
    text_encoder_learning_rate: Annotated[float | None, Field(gt=0, le=10), Later()] = None

    @model_validator(mode="after")
    def _one_rate_for_prodigy(self) -> ImageTraining:
        if self.optimizer == "prodigy" and self.text_encoder_learning_rate is not None:
            raise ValueError(
                "prodigy finds one learning rate for all models: leave text_encoder_learning_rate "
                "out"
            )
        return self

    @model_validator(mode="after")
    def _the_square_is_a_bucket(self) -> ImageTraining:
        if self.buckets and self.resolution % self.buckets.step:
            raise ValueError(
                f"resolution {self.resolution} is not a multiple of buckets.step, "
                f"{self.buckets.step}"
            )
        return self
