"""Text generation: a causal language model learns the assistant's side of dialogues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
import transformers

from lorareg.errors import TrainingError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.manifest import Lora
from lorareg.registry.text_training import Preferences, TextTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime, Sample
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.machine.rehearsal import Pass
from lorareg.trainers.text import packing, quantized, replies, token_rows
from lorareg.trainers.text.chat import Chat, TokenRow
from lorareg.trainers.text.chat_template import PLAIN_NAME
from lorareg.trainers.text.language_model import dequantized_home, load_model, load_tokenizer
from lorareg.trainers.text.linear_targets import choose, linear_modules
from lorareg.trainers.text.packing import Packing
from lorareg.trainers.text.preferences import Pairs
from lorareg.trainers.text.response_loss import (
    Batch,
    Logits,
    collate,
    fastest_right_way,
    from_all_positions,
    from_kept_positions,
    sequence_losses,
)
from lorareg.trainers.text.token_rows import TokenRows

Stage = Callable[[str, int, int], None]


class TextTask:
    """The text-generation side of the shared core (protocol ``tasks.base.Task``).

    Records are tokenized on the first question about them, before any weight is read; a record
    with nothing to learn within ``max_length`` is an error then, not a NaN later.

    Attributes:
        settings: of the manifest.
        max_new_tokens: the most a sample says.
    """

    validation_rounds = 1  # nothing is drawn, so one look is enough

    def __init__(
        self,
        base: ResolvedBase,
        records: Sequence[DialogueRecord],
        settings: TextTraining,
        max_new_tokens: int = 64,
        stage: Stage = lambda what, done, total: None,
    ) -> None:
        """Remember the dialogues; nothing is loaded yet.

        Args:
            base: a language model.
            records: to learn; none only to generate.
            settings: of the manifest.
            max_new_tokens: the most a sample says.
            stage: told what is done before training, how much of it, and of how much.

        Raises:
            TrainingError: preference pairs without ``train.dpo``, or the reverse.
        """
        token_rows.check_pairs(records, settings)
        self.settings = settings
        self.max_new_tokens = max_new_tokens
        self._base = base
        self._tokenizer_home = base
        self._records = tuple(records)
        self._stage = stage
        self._model: Any = None
        self._device = "cpu"
        self._logits: Logits = from_all_positions
        self._packing: Packing | None = None
        self._pairs: Pairs | None = None
        self._linear: list[str] = []
        self._head: str | None = None

    @property
    def ids(self) -> Sequence[str]:
        """Names of the records that are learned; longer ones may be left out."""
        left_out = self._tokens.left_out if self.settings.overlong == "drop" else ()
        return tuple(record.id for record in self._records if record.id not in left_out)

    @property
    def unit(self) -> str:
        """What ``weight`` counts."""
        return "pair" if self.settings.dpo else "token"

    @property
    def template_digest(self) -> str:
        """Digest of the chat template, for the lock."""
        return self._chat.template_digest

    @property
    def template_source(self) -> str:
        """Where the chat template is from: "tokenizer" or "lorareg/plain-v1", for the lock."""
        return self._chat.template_source

    def describe(self) -> list[str]:
        """How much is learned and what of it is cut; what is unusual about the chat template."""
        sentences = self._tokens.describe()
        if self._records and self.template_source == PLAIN_NAME:
            sentences.append(
                f"the base has no chat template: {PLAIN_NAME} is used, and has to be wherever the "
                "adapter is (docs/training.md shows it)"
            )
        if self._records and self._chat.end_of_turn is None:
            sentences.append(
                "the chat template ends an answer with no token of its own: the model is not "
                "taught where to stop"
            )
        return sentences

    def load(self, runtime: Runtime) -> Mapping[str, torch.nn.Module]:
        """Return the frozen language model; the dialogues are checked before it is read.

        Where pairs are learned, the model as it is here, the base alone, is asked about every
        answer: that is the reference, whatever adapter training starts from.
        """
        quantized.refuse(self._base, runtime.device, self.settings.quantization)
        if self._base.layout == "gguf" and (home := dequantized_home(self._base, runtime)).is_dir():
            # a saved tokenizer loads ten times faster than one in a GGUF
            self._tokenizer_home = replace(self._base, layout="transformers", path=home)
        longest = self._tokens.longest
        tokenizer = self._chat.tokenizer
        model = load_model(self._base, runtime, tokenizer, longest, self.settings.quantization)
        self._check_context(model, longest)
        self._model, self._device = model, runtime.device
        self._linear = linear_modules(model)
        head = model.get_output_embeddings()
        self._head = next((name for name, part in model.named_modules() if part is head), None)
        self._logits = fastest_right_way(model, runtime.device)
        replies.without_habits(model, self._chat, self._pad_id)
        if self.settings.dpo:
            self._pairs = self._ask_the_base(runtime, self.settings.dpo)
        if self.settings.packing:
            self._packing = packing.choose(model, runtime, self.settings.max_length)
        return {"": model}

    def targets(self, lora: Lora) -> list[str]:
        """Full names of the linear layers to adapt; see ``linear_targets.choose``."""
        return choose(self._linear, self._head, lora.targets)

    def shape(self, record: str) -> str:
        """Any dialogue may stand beside any other."""
        return ""

    def weight(self, record: str) -> int:
        """How many tokens of the record's responses are learned; a pair counts 1."""
        return 1 if self.settings.dpo else self._tokens.learned(record)

    def losses(
        self, records: Sequence[str], draws: Draws, fixed_round: int | None = None
    ) -> torch.Tensor:
        """Summed negative log-likelihood (nats) of each record's responses, (len(records),).

        Of preference pairs the loss of each, see ``preferences.pair_losses``. Nothing is drawn
        here. In validation dropout, if the adapters have any, is off.
        """
        if fixed_round is not None:
            with replies.in_eval_mode(self._model):
                return self._losses(records)
        return self._losses(records)

    def rehearsal(self, count: int) -> Pass:
        """A forward pass of the longest records, on a copy of the model."""
        tokens = self._tokens.rows
        longest = sorted(self.ids, key=lambda record: sum(len(x.ids) for x in tokens[record]))
        batch = self._batch([row for record in longest[-count:] for row in tokens[record]])
        # where a row begins and which positions are kept depends on values: a rehearsal has none
        batch = replace(batch, places=None)
        some = self._logits is from_kept_positions
        logits = from_all_positions if some else self._logits
        return lambda models: sequence_losses(models[""], logits, batch).sum()

    def measured(self) -> dict[str, float]:
        """Of preference pairs how many are told apart, and by how much."""
        return self._pairs.measured() if self._pairs else {}

    def sample(
        self, prompts: Sequence[str], seed: int, temperature: float | None = None
    ) -> list[Sample]:
        """Reply to each prompt as a first user message, the same way every time.

        Args:
            prompts: what the user says.
            seed: fixes the draws if there is a temperature; else it changes nothing.
            temperature: None for the likeliest token at every step; above 0 to draw tokens.
        """
        how: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "do_sample": False}
        if temperature is not None:
            how |= {"do_sample": True, "temperature": temperature, "top_k": 0}
        with replies.in_eval_mode(self._model), torch.no_grad():
            return [
                Sample(p, seed, replies.reply(self._model, self._chat, p, Draws(seed), how))
                for p in prompts
            ]

    @cached_property
    def _chat(self) -> Chat:
        return Chat(load_tokenizer(self._tokenizer_home))

    @cached_property
    def _tokens(self) -> TokenRows:
        return token_rows.tokenize(self._chat, self._records, self.settings)

    @property
    def _pad_id(self) -> int:
        tokenizer = self._chat.tokenizer
        return int(tokenizer.pad_token_id or tokenizer.eos_token_id or 0)

    def _losses(self, records: Sequence[str]) -> torch.Tensor:
        own = [self._tokens.rows[record] for record in records]
        rows = [row for found in own for row in found]
        losses = sequence_losses(self._model, self._logits, self._batch(rows))
        if self._pairs:
            return self._pairs.losses(losses, rows)
        return torch.stack(
            [part.sum() for part in torch.split(losses, [len(found) for found in own])]
        )

    def _batch(self, rows: Sequence[TokenRow]) -> Batch:
        if self._packing:
            return self._packing.collate(rows, self._pad_id, self._device)
        return collate(rows, self._pad_id, self._device)

    def _ask_the_base(self, runtime: Runtime, settings: Preferences) -> Pairs:
        libraries = f"torch {torch.__version__}, transformers {transformers.__version__}"
        how = f"{runtime.device} {runtime.dtype} {self.settings.quantization}, {libraries}"
        identity = f"{self._base.digest} {self.template_digest} {how}"
        kind, dtype = torch.device(runtime.device).type, getattr(torch, runtime.dtype)

        def loss(row: TokenRow) -> torch.Tensor:
            with torch.autocast(kind, dtype=dtype, enabled=dtype is not torch.float32):
                return sequence_losses(self._model, self._logits, self._batch([row]))

        pairs = Pairs(runtime.cache / "reference-losses", identity, settings)
        rows = (row for found in self._tokens.rows.values() for row in found)
        pairs.ask_the_base(rows, loss, self._stage)
        return pairs

    def _check_context(self, model: Any, longest: int) -> None:
        context = getattr(model.config, "max_position_embeddings", None) or longest
        if longest > context:
            raise TrainingError(
                f"a dialogue has {longest} tokens, base {self._base.model} reads {context}",
                why=f"train.max_length is {self.settings.max_length}",
                fix=f"set train.max_length to {context} or less in the manifest",
            )
