"""Sampled answers: several a question, on the answering path's own decoding, from one seeded generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mark.answering.decoding import batch_state
from mark.errors import DataError
from mark.models.packed_attention import attention_fits, use_packed_attention
from mark.prompting import Passage, build_prompt
from mark.records import Chunk, Example, Kind
from mark.rlhf.preferences import Pair, Rated

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Task:
    """A question as it is asked.

    Attributes:
        id: Of the example.
        golds: Accepted answers; the refusal alone for an unanswerable question.
        prompt_ids: Up to where the answer begins.
        passages: As they stand in the prompt.
    """

    id: str
    question: str
    golds: tuple[str, ...]
    kind: Kind
    prompt_ids: tuple[int, ...]
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Answered:
    """An answer that is to be judged: to which question, its text, and whether it was cut off."""

    task: Task
    text: str
    cut_off: bool


@dataclass(frozen=True)
class Sampled:
    """One answer: its tokens without the end token, its text, and whether it was cut off."""

    ids: tuple[int, ...]
    text: str
    truncated: bool


def tasks_of(
    examples: Sequence[Example],
    chunks: Mapping[str, Chunk],
    tokenizer: PreTrainedTokenizerBase,
    prompt_tokens: int,
) -> list[Task]:
    """The prompts of examples, built as in training and serving.

    Args:
        examples: Any number.
        chunks: By id.
        tokenizer: The model's.
        prompt_tokens: Room for a prompt.

    Raises:
        DataError: A context is not among the chunks, or a question alone does not fit.
    """
    tasks = []
    for row in examples:
        missing = [i for i in row.contexts if i not in chunks]
        if missing:
            raise DataError(
                f"example {row.example_id} cites chunk {missing[0][:12]} that is not in data/chunks.jsonl; "
                "run `dvc repro data_prep`"
            )
        shown = [Passage.from_chunk(chunks[i]) for i in row.contexts]
        prompt = build_prompt(tokenizer, row.question, shown, prompt_tokens)
        tasks.append(
            Task(
                row.example_id, row.question, tuple(row.answers), row.kind,
                tuple(prompt.ids), tuple(prompt.passages),
            )
        )  # fmt: skip
    return tasks


def tasks_of_preferences(
    rows: Sequence[Pair | Rated],
    chunks: Mapping[str, Chunk],
    tokenizer: PreTrainedTokenizerBase,
    prompt_tokens: int,
) -> list[Task]:
    """The prompts of preferences; a person's question has no gold answer, and needs none here.

    Args:
        rows: Pairs or rated answers.
        chunks: By id.
        tokenizer: The model's.
        prompt_tokens: Room for a prompt.
    """
    examples = [
        Example(
            example_id=row.id, split="train", question=row.question, contexts=row.contexts,
            answers=[""], quote=None, page=None, kind="answerable", style="full", rule_id=row.origin,
            document=None, section=None, source_chunk=None,
        )
        for row in rows
    ]  # fmt: skip
    return tasks_of(examples, chunks, tokenizer, prompt_tokens)


@dataclass(frozen=True)
class Sampler:
    """How answers are drawn.

    Attributes:
        temperature: The logits are divided by it.
        max_new_tokens: Of an answer, the end token included.
        batch_size: Answers written together.
        seed: Of the generator.
    """

    temperature: float
    max_new_tokens: int
    batch_size: int
    seed: int

    @torch.no_grad()
    def draw(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
        answers: int = 1,
    ) -> list[list[Sampled]]:
        """Draw answers; the prompt of a question is read once for all of them.

        Args:
            model: A causal language model in evaluation mode.
            tokenizer: Its tokenizer.
            prompts: Token ids.
            answers: Of each.

        Returns:
            [prompts][answers]; the same for the same seed on the same machine.
        """
        generator = torch.Generator().manual_seed(self.seed)
        found: list[list[Sampled]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
        together = max(1, self.batch_size // answers)
        for start in range(0, len(order), together):
            rows = order[start : start + together]
            written = self._batch(model, tokenizer, [list(prompts[i]) for i in rows], answers, generator)
            for number, row in enumerate(rows):
                found[row] = written[number * answers : (number + 1) * answers]
        return found

    def _batch(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        prompts: list[list[int]],
        answers: int,
        generator: torch.Generator,
    ) -> list[Sampled]:
        eos, pad = int(tokenizer.eos_token_id), tokenizer.pad_token_id
        longest = max(len(ids) for ids in prompts) + self.max_new_tokens
        if torch.device(model.device).type == "cpu" and attention_fits(model, longest):
            use_packed_attention(model)  # as the engine does, so that a resumed run draws the same
        state = batch_state(model, eos if pad is None else int(pad), None)
        logits = state.start(prompts)  # [prompts, V]
        rows = torch.arange(len(prompts), device=logits.device).repeat_interleave(answers)
        state.keep(rows)
        logits = logits[rows]  # [prompts * answers, V]
        tokens: list[list[int]] = [[] for _ in rows]
        open_rows = list(range(len(rows)))
        ended: set[int] = set()
        for left in range(self.max_new_tokens - 1, -1, -1):
            chosen = self._choose(logits, generator)
            for row, token in zip(open_rows, chosen.tolist(), strict=True):
                if token == eos:
                    ended.add(row)
                else:
                    tokens[row].append(token)
            stay = [i for i, row in enumerate(open_rows) if row not in ended]
            if not stay or left == 0:
                break
            if len(stay) < len(open_rows):
                kept = torch.tensor(stay, device=logits.device)
                state.keep(kept)
                chosen, open_rows = chosen[kept], [open_rows[i] for i in stay]
            logits = state.step(chosen)
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [Sampled(tuple(tokens[i]), texts[i].strip(), i not in ended) for i in range(len(tokens))]

    def _choose(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """One token a row, [rows]; drawn on the CPU, so that the same seed means the same everywhere."""
        shares = (logits.float() / self.temperature).softmax(dim=-1).cpu()
        return torch.multinomial(shares, 1, generator=generator).squeeze(1).to(logits.device)
