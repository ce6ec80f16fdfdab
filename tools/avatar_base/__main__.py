"""`python -m tools.avatar_base STAGE`: remake the base model, stage by stage, see README.md."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tools.avatar_base import corpus, denoiser, tokenizer, vae
from tools.avatar_base import evaluate as judging
from tools.avatar_base import export as exporting
from tools.avatar_base import grid as drawing

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

HERE = Path(__file__).parent
HELD_OUT_EVERY = 10
"""Every tenth portrait is kept from the classifier to measure it."""

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)
Work = Annotated[Path, typer.Option(help="Folder for everything made on the way.")]
Threads = Annotated[int, typer.Option(help="CPU threads; more than idle cores stalls.")]
Base = Annotated[Path, typer.Option(help="Folder of the finished base model.")]
WORK, BASE = Path("avatar-base-work"), Path("lorareg/builtin/avatar")


@app.command("corpus")
def make_corpus(
    work: Work = WORK,
    node_modules: Annotated[Path, typer.Option(help="Made by `npm ci`.")] = HERE / "node_modules",
    captioned: Annotated[int, typer.Option(help="Portraits per style.")] = 2400,
    varied: Annotated[int, typer.Option(help="Free portraits per package.")] = 500,
) -> None:
    """Draw the portraits and emoji, learn the tokenizer. About 3 minutes."""
    import numpy as np

    work.mkdir(parents=True, exist_ok=True)
    for stage, count in (("captioned", captioned), ("varied", varied), ("held-out", 100)):
        with (work / f"{stage}.jsonl").open("wb") as lines:
            command = ["node", str(HERE / "avatars.mjs"), stage, str(count)]
            subprocess.run(command, stdout=lines, check=True)
    portraits = corpus.portraits(corpus.read_records(work / "captioned.jsonl"))
    portraits.save(work / "portraits.npz")
    drawings = [
        (record["source"], record["svg"]) for record in corpus.read_records(work / "varied.jsonl")
    ]
    for name in corpus.EMOJI_SETS:
        drawings += [(name, svg) for svg in corpus.emoji_drawings(node_modules, name)]
    images = corpus.render_all([svg for _, svg in drawings])
    np.savez(work / "drawings.npz", images=images, sources=[source for source, _ in drawings])
    words = corpus.emoji_words(node_modules)
    (work / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    captions = corpus.some_captions(portraits.attributes, words)
    tokenizer.save(*tokenizer.learn(captions + 3 * words), work / "tokenizer")
    typer.echo(f"{len(portraits)} portraits, {len(drawings)} drawings, {len(words)} words")


@app.command("autoencoder")
def train_autoencoder(
    work: Work = WORK,
    steps: Annotated[int, typer.Option(help="Steps of 32 crops.")] = vae.Plan.steps,
    threads: Threads = 1,
) -> None:
    """Train the autoencoder and encode the portraits. About 13 CPU-minutes; resumes."""
    import numpy as np
    import torch
    from diffusers import AutoencoderKL

    torch.set_num_threads(threads)
    with np.load(work / "drawings.npz") as stored:
        images, sources = stored["images"], stored["sources"]
    trainer = vae.Trainer(vae.Shape(), vae.Plan(steps=steps))
    checkpoint = work / "autoencoder.safetensors"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    for record in vae.train(trainer, images, sources, checkpoint, work / "training_log.jsonl"):
        typer.echo(record, err=True)
    trainer.write(work / "vae")
    model = AutoencoderKL.from_pretrained(work / "vae").eval()
    portraits = corpus.Portraits.load(work / "portraits.npz")
    latents = vae.encode(model, portraits.images)
    factor = 1 / float(latents.std())
    trainer.write(work / "vae", factor)
    np.save(work / "latents.npy", (latents * factor).half().numpy())
    unseen = [record["svg"] for record in corpus.read_records(work / "held-out.jsonl")]
    typer.echo(f"scaling factor {factor:.4f}")
    typer.echo(f"portraits {vae.reconstruction_psnr(model, portraits.images[::12]):.2f} dB")
    typer.echo(f"lorelei {vae.reconstruction_psnr(model, corpus.render_all(unseen)):.2f} dB")


@app.command("denoiser")
def train_denoiser(
    work: Work = WORK,
    steps: Annotated[int, typer.Option(help="Steps of 32 portraits.")] = denoiser.Plan.steps,
    minutes: Annotated[float, typer.Option(help="End here at the latest.")] = float("inf"),
    threads: Threads = 1,
) -> None:
    """Train the text encoder and the UNet together. About an hour of CPU; resumes."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    portraits = corpus.Portraits.load(work / "portraits.npz")
    words = (work / "words.txt").read_text("utf-8").split()
    strange = corpus.strange_words(portraits.attributes, words)
    data = denoiser.Data(
        torch.from_numpy(np.load(work / "latents.npy")).float(),
        lambda index, random: corpus.varied_caption(portraits.attributes[index], random, strange),
    )
    plan = denoiser.Plan(steps=steps, seconds=60 * minutes)
    trainer = denoiser.Trainer(denoiser.Shape(), plan, tokenizer.load(work / "tokenizer"))
    checkpoint = work / "denoiser.safetensors"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    for record in denoiser.train(trainer, data, checkpoint, work / "training_log.jsonl"):
        typer.echo(record, err=True)


@app.command()
def export(work: Work = WORK, base: Base = BASE) -> None:
    """Write the base model's folder: pipeline, grid, checksums; the card in it is kept."""
    base.mkdir(parents=True, exist_ok=True)
    exporting.write_pipeline(
        base, work / "tokenizer", work / "vae", work / "denoiser.safetensors", denoiser.Shape()
    )
    drawing.sheet(_pipeline(base), base / "grid.png")
    sums = exporting.write_checksums(base)
    size = sum((base / name).stat().st_size for name in sums)
    typer.echo(f"{len(sums)} files, {size / 1e6:.1f} MB")


@app.command()
def grid(
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    base: Base = BASE,
    seed: Annotated[int, typer.Option(help="Other seeds draw other people.")] = 0,
) -> None:
    """Draw the contact sheet of a base model. About 30 CPU-seconds."""
    drawing.sheet(_pipeline(base), out, seed)


@app.command()
def evaluate(
    work: Work = WORK,
    base: Base = BASE,
    count: Annotated[int, typer.Option(help="Pictures to draw.")] = 400,
    seed: Annotated[int, typer.Option(help="Of prompts and pictures.")] = 1,
    threads: Threads = 1,
) -> None:
    """Read the base's pictures with a classifier trained on real ones; print confusion tables."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    portraits = corpus.Portraits.load(work / "portraits.npz")
    held = np.arange(len(portraits)) % HELD_OUT_EVERY == 0
    seen = [table for table, out in zip(portraits.attributes, held, strict=True) if not out]
    unseen = [table for table, out in zip(portraits.attributes, held, strict=True) if out]
    reader = judging.fit(portraits.images[~held], seen)
    real = judging.judge(reader, portraits.images[held], unseen)
    asked = judging.questions_to_ask(portraits.attributes, count, seed)
    prompts = [corpus.caption(table) for table in asked]
    pictures = np.stack([np.asarray(p) for p in drawing.draw(_pipeline(base), prompts, seed)])
    generated = judging.judge(reader, pictures, asked)
    for name, table in generated.items():
        typer.echo(f"\n{name}: real {real[name].accuracy:.3f}, generated {table.accuracy:.3f}\n")
        typer.echo(table.table())


def _pipeline(folder: Path) -> StableDiffusionPipeline:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(folder)


if __name__ == "__main__":
    app()
