"""Batched greedy answering with one language model, and how likely it would rather refuse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from mark.answering.decoding import BatchState, Prefix, batch_state, is_recurrent
from mark.answering.refusal import is_refusal
from mark.answering.static_cache import StaticBatch, static_decoder
from mark.models.packed_attention import attention_fits, use_packed_attention, uses_packed_attention
from mark.prompting import REFUSAL, Passage, Prompt, answer_ids, build_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MIN_PREFIX = 16  # shared tokens from which reading them once pays
_MAX_SHORT = 4  # times the batch size for short prompts: decoding costs little more a row
_KEEP_ALL_ABOVE = 0.75  # share of rows still writing above which dropping the others does not pay


@dataclass(frozen=True)
class Request:
    """A question and the passages to answer it from, best first; none = without retrieval."""

    question: str
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True)
class Generation:
    """What the model made of one request.

    Attributes:
        text: The greedy answer; where greedy decoding would refuse, the best answer that does not.
        raw_text: What plain greedy decoding gives: `text`, or the refusal.
        mean_logprob: Mean natural-log probability of `text`'s tokens, the end token included.
        refusal_probability: Probability that an answer starts with the refusal:
            `prod_i P(r_i | prompt, r_1 .. r_(i-1))` over all tokens r_i of the refusal, without end token;
            1 where `text` refuses all the same, in a sentence around the refusal.
        passages_shown: The passages as they stood in the prompt, possibly shortened.
    """

    text: str
    raw_text: str
    mean_logprob: float
    refusal_probability: float
    passages_shown: tuple[Passage, ...]


class Engine:
    """Answers requests in batches of similar length.

    Args:
        model: A causal language model in evaluation mode, plain or with an adapter.
        tokenizer: Its tokenizer, pad and EOS ids set.
        max_seq_length: Tokens of prompt and answer together.
        max_new_tokens: Of an answer, the end token included.
        batch_size: Requests of full length answered together; of short ones up to 4 times as many, but where
            tokens are written in recorded steps (`mark.answering.static_cache`).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        max_seq_length: int,
        max_new_tokens: int,
        batch_size: int,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.prompt_tokens = max_seq_length - max_new_tokens
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        if torch.device(model.device).type == "cpu" and attention_fits(model, max_seq_length):
            use_packed_attention(model)  # on a GPU a few large launches are faster
        self.decoder = static_decoder(model, max_seq_length, batch_size)
        self.eos_id = int(tokenizer.eos_token_id)
        self.refusal_ids = answer_ids(tokenizer, REFUSAL)[:-1]
        self.barred_ids = sorted({self.eos_id, *first_ids(tokenizer, REFUSAL)})

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], label: str | None = "answering") -> list[Generation]:
        """Answer every request; equal requests are answered once.

        Refusing is left to the caller: he compares `refusal_probability` with a calibrated threshold and
        takes the refusal or `text`. Both come from one prompt pass: the refusal's tokens are appended, read
        off and taken back. Only where greedy decoding follows ALL of them is `text` written with the
        refusal's first token, however it is written, and the end token barred from the first position.

        Args:
            requests: In any order.
            label: Of the progress bar; None = no bar.

        Returns:
            One generation a request, in the same order.

        Raises:
            DataError: A question alone is longer than the prompt may be.
        """
        unique = list(dict.fromkeys(requests))
        prompts = [build_prompt(self.tokenizer, r.question, r.passages, self.prompt_tokens) for r in unique]
        prefix = self._shared_prefix([p.ids for p in prompts])
        done: dict[Request, Generation] = {}
        with tqdm(
            total=len(unique), desc=label, unit="answer", mininterval=1.0, disable=label is None
        ) as bar:
            for rows in self._batches([len(p.ids) for p in prompts], [r.passages for r in unique]):
                answers = self._answer_batch([prompts[i] for i in rows], prefix)
                done.update((unique[i], answer) for i, answer in zip(rows, answers, strict=True))
                bar.update(len(rows))
        return [done[request] for request in requests]

    def _batches(self, lengths: list[int], passages: list[tuple[Passage, ...]]) -> Iterator[list[int]]:
        """Indices of prompts of similar length, longest first, those on the same passages together."""
        longest: dict[tuple[Passage, ...], int] = {}
        for length, shown in zip(lengths, passages, strict=True):
            longest[shown] = max(length, longest.get(shown, 0))
        first = {shown: i for i, shown in enumerate(longest)}
        order = sorted(
            range(len(lengths)), key=lambda i: (-longest[passages[i]], first[passages[i]], -lengths[i])
        )
        while order:
            longest_left = max(lengths[i] for i in order[: self.batch_size * _MAX_SHORT])
            fitting = self.prompt_tokens // max(1, longest_left)
            most = _MAX_SHORT if self.decoder is None else 1  # its buffers have room for full length
            size = self.batch_size * min(max(fitting, 1), most)
            yield order[:size]
            order = order[size:]

    def _shared_prefix(self, prompts: list[list[int]]) -> Prefix | None:
        """The longest common start of all prompts, read once; None where it does not pay or fit."""
        if len(prompts) < 2 or is_recurrent(self.model) or uses_packed_attention(self.model):
            return None
        first, last = min(prompts), max(prompts)
        length = 0
        while length < min(len(first), len(last)) - 1 and first[length] == last[length]:
            length += 1
        return Prefix(self.model, first[:length]) if length >= _MIN_PREFIX else None

    def _answer_batch(self, prompts: list[Prompt], prefix: Prefix | None) -> list[Generation]:
        pad_id = self.tokenizer.pad_token_id
        state = self._state(self.eos_id if pad_id is None else int(pad_id), prefix)
        first = state.start([p.ids for p in prompts])
        refusal_logprob, refuses = self._probe_refusal(state, first)
        unbarred = first.log_softmax(dim=-1)
        for token in self.barred_ids:
            first[refuses, token] = -math.inf
        tokens, logprobs = self._write(state, first)
        for row in refuses.nonzero().flatten().tolist():  # as likely as it was before anything was barred
            logprobs[row][0] = float(unbarred[row, tokens[row][0]])
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [
            generation_of(text, logprobs[i], float(refusal_logprob[i]), bool(refuses[i]), prompts[i].passages)
            for i, text in enumerate(texts)
        ]

    def _state(self, pad_id: int, prefix: Prefix | None) -> BatchState:
        if self.decoder is None:
            return batch_state(self.model, pad_id, prefix)
        return StaticBatch(self.model, pad_id, prefix, self.decoder)

    def _probe_refusal(self, state: BatchState, first: Tensor) -> tuple[Tensor, Tensor]:
        """Log probability of the refusal [B], and whether greedy decoding writes all of it [B]."""
        wanted = torch.tensor(self.refusal_ids, device=first.device)
        logits = first[:, None]
        if len(wanted) > 1:
            logits = torch.cat([logits, state.probe(self.refusal_ids[:-1])], dim=1)  # [B, tokens, V]
        steps = logits.log_softmax(dim=-1).gather(2, wanted.expand(len(first), -1)[:, :, None])
        return steps.squeeze(2).sum(dim=1), (logits.argmax(dim=-1) == wanted).all(dim=1)

    def _write(self, state: BatchState, logits: Tensor) -> tuple[list[list[int]], list[list[float]]]:
        """Greedy decoding from the first logits; answers without the end token, log probabilities with it."""
        tokens: list[list[int]] = [[] for _ in logits]
        logprobs: list[list[float]] = [[] for _ in logits]
        rows = torch.arange(len(logits), device=logits.device)  # the answer that each row of the batch writes
        open_rows = set(range(len(logits)))
        for left in range(self.max_new_tokens - 1, -1, -1):
            values, chosen = logits.log_softmax(dim=-1).max(dim=-1)
            for row, token, value in zip(rows.tolist(), chosen.tolist(), values.tolist(), strict=True):
                if row not in open_rows:
                    continue
                logprobs[row].append(value)
                if token == self.eos_id:
                    open_rows.discard(row)
                else:
                    tokens[row].append(token)
            if not open_rows or left == 0:
                break
            if len(open_rows) <= _KEEP_ALL_ABOVE * len(rows):
                kept = [i for i, row in enumerate(rows.tolist()) if row in open_rows]
                stay = torch.tensor(kept, device=rows.device)
                state.keep(stay)
                rows, chosen = rows[stay], chosen[stay]
            logits = state.step(chosen)
        return tokens, logprobs


def generation_of(
    text: str, logprobs: Sequence[float], refusal_logprob: float, refuses: bool, passages: Sequence[Passage]
) -> Generation:
    """What was written, as every engine tells it.

    Args:
        text: The answer's tokens as text.
        logprobs: Of its tokens, the end token included.
        refusal_logprob: Log probability of the refusal's tokens.
        refuses: Whether greedy decoding writes all of them.
        passages: As they stood in the prompt.
    """
    return Generation(
        text=text.strip(),
        raw_text=REFUSAL if refuses else text.strip(),
        mean_logprob=sum(logprobs) / len(logprobs),
        refusal_probability=1.0 if is_refusal(text) else math.exp(refusal_logprob),
        passages_shown=tuple(passages),
    )


def first_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> set[int]:
    """The first token of a text in its ways of writing: else a barred `Not` comes back as `not`."""
    ways = (text, text.lower(), text.upper())
    return {answer_ids(tokenizer, lead + way)[0] for way in ways for lead in ("", " ")}
