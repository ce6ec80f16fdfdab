"""What a step of an image run is given: latents, texts, frames and weights of its pictures.

Everything here is a pure function of the settings, the records and the place of the draws; the
denoiser, its noise and its loss are the task's (``trainers.image.task``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import ImageTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data import class_pictures as of_class
from lorareg.trainers.data import cuts, masks
from lorareg.trainers.data.cuts import Cut
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.data.texts import Texts
from lorareg.trainers.image import loss_masks
from lorareg.trainers.image.latents import Encoder, Values, View
from lorareg.trainers.image.pipelines import DiffusionBase

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Batch:
    """The rows of one forward pass, on the CPU.

    First the records in their order; then, in training with ``train.prior``, a class picture for
    each.

    Attributes:
        keys: one stable name a row, for draws; a record's own id in its row.
        clean: latents without the autoencoder's scaling and shift, (R, C, h, w) float32: a sample
            of the posterior in training, its mean in validation.
        texts: one a row: a caption (or one of its variants, or "" where it is dropped).
        frames: SDXL's micro-conditioning, (R, 6) float32: original height and width, top and left
            of the cut, height and width of the cut, pixels (arXiv 2307.01952).
        mask: weight of the loss at each latent pixel, (R, 1, h, w) float32, of mean 1 in every
            row; None where every pixel counts alike.
        weights: of each row's loss, (R,) float32: 1 for a record, ``prior.weight`` for a class
            picture.
        owners: row -> index of the record whose loss it is added to.
    """

    keys: list[str]
    clean: torch.Tensor
    texts: list[str]
    frames: torch.Tensor
    mask: torch.Tensor | None
    weights: torch.Tensor
    owners: list[int]


@dataclass(frozen=True)
class _Row:
    key: str
    view: View
    text: str
    weight: float = 1.0


class ImageInputs:
    """The pictures of a run, cut, encoded and captioned as its settings say.

    Args:
        base: the frozen model; of it the autoencoder is used (``vae``, ``vae_config``,
            ``part_digest``), and only where the cache lacks something.
        records: pictures with captions (and masks).
        settings: of the manifest.
        digests: cache of file digests.
        progress: told ("encoding pictures", done, total) while caches fill; may raise to stop.
        class_pictures: for ``settings.prior``.

    Raises:
        InvalidFileError: pictures or masks that cannot be used as the settings say; all are named.
    """

    def __init__(
        self,
        base: DiffusionBase,
        records: Sequence[ImageRecord],
        settings: ImageTraining,
        digests: DigestCache,
        progress: Progress = lambda what, done, total: None,
        class_pictures: Sequence[ImageRecord] = (),
    ) -> None:
        self.ids = [record.id for record in records]
        self._base = base
        self._records = {record.id: record for record in records}
        self._settings = settings
        self._digests = digests
        self._progress = progress
        self._sizes = cuts.sizes({record.id: record.path for record in records}, settings)
        self._texts = Texts(records, settings)
        by_alpha = settings.masked_loss and not settings.masked_loss.folder
        self._unmasked = masks.without_alpha(records) if by_alpha else []
        self._class_pictures = list(class_pictures)
        self._beside = of_class.by_size(self._class_pictures, Counter(self._sizes.of.values()))
        self._latents: Values = {}
        self._masks: Values = {}

    def shape(self, record: str) -> str:
        """Width and height in pixels, "512x768"; known before ``encode``."""
        width, height = self._sizes.of[record]
        return f"{width}x{height}"

    def texts(self) -> set[str]:
        """Every text that ``batch`` may ever return: captions, variants, "" and class captions."""
        return self._texts.every | {picture.caption for picture in self._class_pictures}

    def describe(self) -> list[str]:
        """What is learned from, a sentence each; what is enlarged is known after ``encode``."""
        mirrored = ", each also mirrored" if self._settings.flip else ""
        return [
            f"pictures: {self._sizes.describe()}{mirrored}",
            *self._describe_small(),
            *self._texts.describe(),
            *self._describe_masks(),
            *self._describe_class(),
        ]

    def encode(self, runtime: Runtime) -> None:
        """Fill the caches of masks and latents; the autoencoder is freed again.

        Raises:
            InvalidFileError: masks that are all black, before any picture is encoded.
        """
        encoder = Encoder(self._base, runtime, self._digests, self._progress)
        ways = (False, True) if self._settings.flip else (False,)
        views = [self._view(name, mirrored) for name in self.ids for mirrored in ways]
        if self._settings.masked_loss:
            self._masks = encoder.masks(views)
            loss_masks.refuse_black(self._masks)
        beside = [View(one, size) for size, found in self._beside.items() for one in found]
        self._latents = encoder.latents([*views, *beside])

    def batch(self, records: Sequence[str], draws: Draws, fixed_round: int | None = None) -> Batch:
        """The rows of a micro-batch.

        Args:
            records: ids, all of one shape.
            draws: place of the step.
            fixed_round: None in training; a number in validation, which draws nothing here: no
                flip, no dropout, the caption as written, the mean latents, no class pictures.
        """
        if fixed_round is None:
            rows = [self._row(record, draws) for record in records]
            rows += [self._class_row(record, draws) for record in records if self._beside]
        else:
            rows = [_Row(n, self._view(n), self._texts.written(n)) for n in records]
        sampled = draws if fixed_round is None else None
        return Batch(
            keys=[row.key for row in rows],
            clean=torch.stack([self._clean(row, sampled) for row in rows]),
            texts=[row.text for row in rows],
            frames=torch.stack([self._frame(row) for row in rows]),
            mask=torch.stack([self._mask(row) for row in rows]) if self._masks else None,
            weights=torch.tensor([row.weight for row in rows]),
            owners=[number % len(records) for number in range(len(rows))],
        )

    def _view(self, record: str, mirrored: bool = False) -> View:
        return View(self._records[record], self._sizes.of[record], mirrored)

    def _row(self, record: str, draws: Draws) -> _Row:
        mirrored = self._settings.flip and draws.uniform("flip", record) < 0.5
        return _Row(record, self._view(record, mirrored), self._texts.drawn(record, draws))

    def _class_row(self, record: str, draws: Draws) -> _Row:
        """A class picture beside a record, with its caption: never dropped, never mirrored."""
        prior = self._settings.prior
        size = self._sizes.of[record]
        choice = self._beside[size]
        picture = choice[int(draws.uniform("class_picture", record) * len(choice))]
        weight = prior.weight if prior else 1.0
        # No file name has a NUL, so the key is no record's.
        return _Row(f"{record}\0class", View(picture, size), picture.caption, weight)

    def _clean(self, row: _Row, draws: Draws | None) -> torch.Tensor:
        latent = self._latents[row.view]
        mean, logvar = latent["mean"], latent["logvar"]
        if draws is None:
            return mean
        return mean + (0.5 * logvar).exp() * draws.normal(mean.shape, "posterior", row.key)

    def _frame(self, row: _Row) -> torch.Tensor:
        width, height = row.view.size
        target = torch.tensor([height, width], dtype=torch.float32)
        return torch.cat([self._latents[row.view]["frame"].float(), target])

    def _mask(self, row: _Row) -> torch.Tensor:
        """Class pictures have no mask: they count fully."""
        settings = self._settings.masked_loss
        if settings is None or row.view not in self._masks:
            return torch.ones(1, *self._latents[row.view]["mean"].shape[1:])
        return loss_masks.weights(self._masks[row.view]["mask"], settings.outside)

    def _describe_small(self) -> list[str]:
        """Small pictures, which nobody should miss: enlarged, or in a bucket of their own."""
        found = []
        buckets = self._settings.buckets
        if buckets and not buckets.upscale and (small := self._sizes.small):
            found.append(f"small pictures: {len(small)}, each in the largest bucket that it fills")
        if enlarged := self._enlarged & {*self._records.values()}:
            found.append(f"small pictures: {len(enlarged)}, enlarged to this size")
        return found

    def _describe_masks(self) -> list[str]:
        settings = self._settings.masked_loss
        if settings is None:
            return []
        where = f"in {settings.folder}/" if settings.folder else "the alpha channels"
        full = f"; pictures without one: {len(self._unmasked)}" if self._unmasked else ""
        return [f"masks: {where}, what they hide weighs {settings.outside:g}{full}"]

    def _describe_class(self) -> list[str]:
        prior = self._settings.prior
        if prior is None:
            return []
        count, enlarged = len(self._class_pictures), self._enlarged & {*self._class_pictures}
        small = f"; small ones, enlarged: {len(enlarged)}" if enlarged else ""
        beside = f"one beside each picture, weight {prior.weight:g}"
        return [f"class pictures: {count} of {prior.path}, {beside}{small}"]

    @property
    def _enlarged(self) -> set[ImageRecord]:
        """Pictures that had to be enlarged; empty before ``encode``."""
        heights_and_widths = {
            view: value["frame"][:2].tolist() for view, value in self._latents.items()
        }
        return {
            view.picture
            for view, (height, width) in heights_and_widths.items()
            if Cut.of((width, height), view.size).is_enlarged
        }
