"""The preferences of a run: people's first, then sampled ones, block by block until there are enough."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mark.answering.quotes import fold
from mark.config import Rlhf
from mark.errors import DataError
from mark.evaluation.questions import stratified
from mark.files import read_json, read_jsonl, write_json, write_jsonl
from mark.models.embedder import Embedder
from mark.prompting import answer_ids, build_prompt
from mark.records import Chunk, Example
from mark.rlhf.held_out import TestText, with_test_text
from mark.rlhf.inputs import RlhfInputs, held_out_questions
from mark.rlhf.people import Human, from_people
from mark.rlhf.preferences import (
    FromSamples,
    Pair,
    PreferenceLedger,
    Preferences,
    QuestionCounts,
    Rated,
    build_preferences,
)
from mark.rlhf.ranking import joined, rank
from mark.rlhf.sampling import Sampled, Sampler, Task, tasks_of
from mark.seeding import derived_seed
from mark.untrusted import Neutraliser

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ONLINE = ("grpo", "rloo")  # methods that sample while they train


def offered_questions(rows: Sequence[Example], settings: Rlhf, seed: int) -> list[Example]:
    """Training questions that may be asked, both kinds in their shares.

    For dpo and kto they come shuffled: sampling stops when it has found enough pairs, and the first ones
    must not be those of the first documents alone.

    Args:
        rows: All training questions.
        settings: Section `rlhf`.
        seed: Of the run.
    """
    if settings.method in ONLINE:
        return stratified(rows, settings.max_pairs, lambda row: row.kind)
    chosen = stratified(rows, settings.sampling.questions, lambda row: row.kind)
    random.Random(derived_seed(seed, "questions")).shuffle(chosen)
    return chosen


@dataclass(frozen=True)
class Gathering:
    """What preferences are made of, and where they are kept while a run lasts."""

    inputs: RlhfInputs
    settings: Rlhf
    seed: int
    folder: Path
    chunks: dict[str, Chunk]
    prompt_tokens: int  # room for a prompt

    def preferences(
        self,
        offered: Sequence[Example],
        ask: bool,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
    ) -> Preferences:
        """Gathered once a run: the ledger, written last, says that they are complete.

        Args:
            offered: Questions that may be asked, in order.
            ask: False: none of them is, and only people's preferences are taken.
            model: The fine-tuned model as it is deployed.
            tokenizer: Its tokenizer.
        """
        pairs, rated, ledger = (self.folder / name for name in ("pairs.jsonl", "rated.jsonl", "ledger.json"))
        if ledger.is_file():
            found = PreferenceLedger.model_validate(read_json(ledger))
            return Preferences(read_jsonl(pairs, Pair), read_jsonl(rated, Rated), found)
        people = from_people(self.settings.method, self._human(tokenizer))
        preferences = build_preferences(
            self.settings.method,
            self._sampled(offered, len(people.pairs), model, tokenizer) if ask else _unasked(offered),
            people,
            self.settings.max_pairs,
            derived_seed(self.seed, "ratings"),
        )
        write_jsonl(pairs, preferences.pairs)
        write_jsonl(rated, preferences.rated)
        write_json(ledger, preferences.ledger.model_dump())
        return preferences

    def _human(self, tokenizer: PreTrainedTokenizerBase) -> Human:
        accepted = self.inputs.accepted()
        encoder = Embedder(self.inputs.embedder) if accepted else None
        test = held_out_questions(
            self.inputs.data,
            self.inputs.handwritten_test,
            None if encoder is None else lambda texts: encoder.encode(texts, truncate=True),
        )
        text = TestText.read(self.inputs.data, self.inputs.handwritten_test) if accepted else TestText()
        return Human(
            rows=accepted,
            test=test,
            chunks=self.chunks,
            fits=self._fits(tokenizer),
            held_out=with_test_text(accepted, text, self.chunks),
            plain=Neutraliser(tokenizer).text,
        )

    def _fits(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[str, Sequence[str]], bool]:
        """Whether a person's question and answers leave room for each other, as our own do."""

        def fits(question: str, answers: Sequence[str]) -> bool:
            try:
                build_prompt(tokenizer, question, [], self.prompt_tokens)
            except DataError:
                return False
            longest = max(len(answer_ids(tokenizer, answer)) for answer in answers)
            return longest <= self.settings.sampling.max_new_tokens

        return fits

    def _sampled(
        self, offered: Sequence[Example], found: int, model: Any, tokenizer: PreTrainedTokenizerBase
    ) -> FromSamples:
        """Ask block after block until there are `max_pairs` pairs; `found` of them there are already."""
        if self.settings.method in ONLINE:
            return FromSamples(questions=QuestionCounts(asked=len(offered)))
        how = self.settings.sampling
        size = max(1, how.batch_size // how.answers)
        blocks: list[FromSamples] = []
        with tqdm(total=len(offered), desc="sampling", unit="question", mininterval=1.0) as bar:
            for start in range(0, len(offered), size):
                if found >= self.settings.max_pairs:
                    break
                rows = offered[start : start + size]
                blocks.append(self._block(len(blocks), rows, model, tokenizer))
                found += len(blocks[-1].pairs)
                bar.update(len(rows))
                bar.set_postfix(pairs=found, refresh=False)
        sampled = joined(blocks)
        sampled.questions.left = len(offered) - sampled.questions.asked
        return sampled

    def _block(
        self, number: int, rows: Sequence[Example], model: Any, tokenizer: PreTrainedTokenizerBase
    ) -> FromSamples:
        """One block, drawn from a generator of its own and kept: a resumed run has the same answers."""
        path = self.folder / f"sampled-{number:05}.json"
        if path.is_file():
            return FromSamples.model_validate(read_json(path))
        tasks = tasks_of(rows, self.chunks, tokenizer, self.prompt_tokens)
        plain = Neutraliser(tokenizer).text  # a special token that was spelt out would be read back as one
        drawn = [
            [replace(answer, text=plain(fold(answer.text))) for answer in answers]
            for answers in self._draw(number, tasks, model, tokenizer)
        ]
        block = rank(zip(tasks, drawn, strict=True), self.settings.reward, self.settings.sampling.min_gap)
        write_json(path, block.model_dump())
        return block

    def _draw(
        self, number: int, tasks: Sequence[Task], model: Any, tokenizer: PreTrainedTokenizerBase
    ) -> Sequence[Sequence[Sampled]]:
        how = self.settings.sampling
        seed = derived_seed(self.seed, "sampling", str(number))
        sampler = Sampler(how.temperature, how.max_new_tokens, how.batch_size, seed)
        return sampler.draw(model, tokenizer, [task.prompt_ids for task in tasks], how.answers)


def _unasked(offered: Sequence[Example]) -> FromSamples:
    return FromSamples(questions=QuestionCounts(left=len(offered)))
