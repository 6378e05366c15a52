"""The answers that `Engine` gives, from a model behind an OpenAI-compatible server.

The prompt is built here, by the same builder and the model's own tokenizer, and sent as token ids. Three
kinds of requests, all of them greedy completions with log probabilities, give what the engine gives:

- the answer: one completion;
- the refusal's probability: for each of its tokens that the answer does not begin with, one token written
  after the tokens before it with a bias of +100 on it, whose log probability is told as it was without;
- where greedy decoding refuses: one token with the refusal's first tokens and the end token barred (-100),
  then the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from mark.answering.completions import CompletionServer, Token
from mark.answering.engine import Generation, Request, first_ids, generation_of
from mark.config import AnswerServer
from mark.errors import EndpointError, ModelError
from mark.files import BASE_MODELS, MODELS
from mark.models.loading import entry_base, load_tokenizer
from mark.prompting import REFUSAL, Passage, answer_ids, build_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FORCED, _BARRED = 100.0, -100.0  # the widest bias that OpenAI's API has
_PROBE = Request("Who keeps the records, and for how long?")
_PROBE_TOKENS = 8
_RAW = 0.25  # nats: a bias of 100 moves a log probability by more than 0.69, rounding by less


@dataclass(frozen=True)
class _Found:
    """What was found of one prompt: the answer, whether greedy decoding refuses, how likely that is."""

    tokens: list[Token]
    refuses: bool
    refusal_logprob: float


class RemoteEngine:
    """Answers requests through a server, several at once.

    Attributes:
        name: `openai/` and what kind of server it says it is; recorded with every answer.
        model: What the server calls the model.
        fingerprint: Tokens and log probabilities of a fixed text: equal weights, nearly equal numbers.
        listener: Hears an answer's text when it is whole; the server streams nothing.
    """

    listener: Callable[[str], None] | None = None

    def __init__(
        self,
        server: CompletionServer,
        model: str,
        tokenizer: PreTrainedTokenizerBase,
        max_seq_length: int,
        max_new_tokens: int,
    ) -> None:
        """Find out whether the server gives what is needed.

        Args:
            server: Where the model is.
            model: As the server calls it.
            tokenizer: Of the model as it lies in models/.
            max_seq_length: Tokens of prompt and answer together.
            max_new_tokens: Of an answer, the end token included.

        Raises:
            EndpointError: The server cannot be reached, or does not say what refusing and calibration need.
            ModelError: It has no such model, or the tokenizer names no end token.
        """
        if tokenizer.eos_token_id is None:
            raise ModelError(f"{tokenizer.name_or_path} names no eos_token; add it to tokenizer_config.json")
        self.server, self.model, self.tokenizer = server, model, tokenizer
        self.prompt_tokens = max_seq_length - max_new_tokens
        self.max_new_tokens = max_new_tokens
        self.eos_id = int(tokenizer.eos_token_id)
        self.refusal_ids = answer_ids(tokenizer, REFUSAL)[:-1]
        self.barred_ids = sorted({self.eos_id, *first_ids(tokenizer, REFUSAL)})
        self.name = f"openai/{self._kind()}"
        self.fingerprint = self._probe()

    def generate(self, requests: Sequence[Request], label: str | None = "answering") -> list[Generation]:
        """Answer every request, as `Engine.generate` does.

        Raises:
            DataError: A question alone is longer than the prompt may be.
            EndpointError: The server fails; nothing is made up in its place.
        """
        unique = list(dict.fromkeys(requests))
        prompts = [build_prompt(self.tokenizer, r.question, r.passages, self.prompt_tokens) for r in unique]
        found = self._all([prompt.ids for prompt in prompts], label)
        done = {
            request: self._generation(one, prompt.passages)
            for request, prompt, one in zip(unique, prompts, found, strict=True)
        }
        if self.listener is not None and len(unique) == 1:
            self.listener(done[unique[0]].text)
        return [done[request] for request in requests]

    def _all(self, prompts: Sequence[list[int]], label: str | None) -> list[_Found]:
        """One a prompt, in their order; the first fault ends them all."""
        found: dict[int, _Found] = {}
        with (
            tqdm(
                total=len(prompts), desc=label, unit="answer", mininterval=1.0, disable=label is None
            ) as bar,
            ThreadPoolExecutor(self.server.concurrency) as pool,
        ):
            asked = {pool.submit(self._ask, prompt): place for place, prompt in enumerate(prompts)}
            try:
                for future in as_completed(asked):
                    found[asked[future]] = future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [found[place] for place in range(len(prompts))]

    def _ask(self, prompt: list[int]) -> _Found:
        tokens = self._write(prompt, self.max_new_tokens)
        logprob, refuses = self._refusal(prompt, tokens)
        if refuses:
            first = self._one(prompt, dict.fromkeys(self.barred_ids, _BARRED))
            if first.id in self.barred_ids:
                raise EndpointError(f"{self.server.host} wrote a token that logit_bias bars")
            rest = self.max_new_tokens - 1
            tokens = [first, *(self._write([*prompt, first.id], rest) if rest else [])]
        return _Found(tokens, refuses, logprob)

    def _write(self, prompt: list[int], limit: int) -> list[Token]:
        """Greedy decoding to the tokenizer's end token; other end tokens of the server's do not end it."""
        written: list[Token] = []
        while len(written) < limit:
            reply = self.server.complete(
                self.model, [*prompt, *(token.id for token in written)], limit - len(written)
            )
            for token in reply.tokens:
                written.append(token)
                if token.id == self.eos_id:
                    return written
            if not reply.tokens or (not reply.ended and len(written) < limit):
                raise EndpointError(
                    f"{self.server.host} ended an answer after {len(written)} of {limit} tokens without an "
                    "end token; its context must hold train.max_seq_length tokens (vLLM: --max-model-len, "
                    "llama.cpp: -c, for each of -np)"
                )
        return written

    def _refusal(self, prompt: list[int], tokens: Sequence[Token]) -> tuple[float, bool]:
        """Log probability of the refusal, and whether greedy decoding writes all of it."""
        total, follows = 0.0, True
        on_the_way = True  # the answer begins with the refusal's tokens so far
        for place, wanted in enumerate(self.refusal_ids):
            on_the_way = on_the_way and place < len(tokens) and tokens[place].id == wanted
            token = (
                tokens[place] if on_the_way else self._forced([*prompt, *self.refusal_ids[:place]], wanted)
            )
            total += token.logprob
            follows = follows and token.likeliest == wanted
        return total, follows

    def _forced(self, prompt: list[int], wanted: int) -> Token:
        token = self._one(prompt, {wanted: _FORCED})
        if token.id != wanted:
            raise EndpointError(
                f"{self.server.host} does not heed logit_bias, by which the refusal's probability is asked"
            )
        return token

    def _one(self, prompt: list[int], bias: dict[int, float]) -> Token:
        tokens = self.server.complete(self.model, prompt, 1, bias).tokens
        if not tokens:
            raise EndpointError(f"{self.server.host} wrote nothing where one token was asked for")
        return tokens[0]

    def _generation(self, found: _Found, passages: Sequence[Passage]) -> Generation:
        ids = [token.id for token in found.tokens]
        written = ids[: ids.index(self.eos_id)] if self.eos_id in ids else ids
        return generation_of(
            self.tokenizer.decode(written, skip_special_tokens=True),
            [token.logprob for token in found.tokens],
            found.refusal_logprob,
            found.refuses,
            passages,
        )

    def _kind(self) -> str:
        """What the server says it is.

        Raises:
            ModelError: It does not serve the model.
        """
        listed = self.server.models()
        if self.model not in listed:
            raise ModelError(
                f"{self.server.host} serves no model named {self.model!r} (it serves: "
                f"{', '.join(sorted(listed)[:8]) or 'none'}); start it under that name, or set names beside "
                "its url"
            )
        owner = listed[self.model]
        return owner if re.fullmatch(r"[\w.-]{1,32}", owner) else "unknown"

    def _probe(self) -> list[tuple[int, float]]:
        """Ask what every answer needs once.

        Raises:
            EndpointError: The prompt is not read as it is sent, or biases do not do what is needed.
        """
        host = self.server.host
        prompt = build_prompt(self.tokenizer, _PROBE.question, (), self.prompt_tokens).ids
        reply = self.server.complete(self.model, prompt, _PROBE_TOKENS)
        if reply.prompt_tokens not in (None, len(prompt)):
            raise EndpointError(
                f"{host} read {reply.prompt_tokens} tokens where {len(prompt)} were sent as ids; answers "
                "would not be those of the prompt that was trained on"
            )
        if not reply.tokens or len(reply.tokens[0].tops) < 2:
            raise EndpointError(f"{host} does not tell the likeliest tokens (logprobs: 2); raise its limit")
        first = reply.tokens[0]
        likeliest, second = sorted(first.tops, key=lambda token: -first.tops[token])[:2]
        if self._one(prompt, {likeliest: _BARRED}).id == likeliest:
            raise EndpointError(f"{host} does not heed logit_bias, which the refusal rule needs")
        if abs(self._forced(prompt, second).logprob - first.tops[second]) > _RAW:
            raise EndpointError(
                f"{host} tells log probabilities after logit_bias; those before it are needed "
                "(vLLM: --logprobs-mode raw_logprobs, the default)"
            )
        return [(token.id, token.logprob) for token in reply.tokens]


def model_folder(name: str, root: Path) -> Path:
    """Where a model's tokenizer lies: an entry of models/ or a base model.

    Args:
        name: As `mark.load_model` takes it.
        root: The project's root.

    Raises:
        ModelError: There is no such model.
    """
    for folder, proof in ((root / BASE_MODELS / name, "config.json"), (root / MODELS / name, "entry.json")):
        if name and (folder / proof).is_file():
            return folder
    raise ModelError(f"no model named {name!r} under {root / MODELS}; run `dvc repro base_model`")


def remote_engine(
    folder: Path, name: str, settings: AnswerServer, section: str, max_seq_length: int, max_new_tokens: int
) -> RemoteEngine:
    """An engine for a model of the project.

    Args:
        folder: Of the base model or the entry: its tokenizer is used, its weights are not loaded.
        name: Of the model, here.
        settings: Section `eval.server` or `serve.server`.
        section: Its name.
        max_seq_length: Tokens of prompt and answer together.
        max_new_tokens: Of an answer.

    Raises:
        ConfigError: The key's variable is not set.
        EndpointError: The server cannot be reached, or lacks something.
        ModelError: It has no such model, or the tokenizer cannot be read.
    """
    server = CompletionServer(settings, section)
    own = (folder / "tokenizer_config.json").is_file()
    tokenizer = load_tokenizer(folder if own else entry_base(folder))
    return RemoteEngine(server, settings.names.get(name, name), tokenizer, max_seq_length, max_new_tokens)
