"""Questions put into other words by a language model; what does not survive is thrown away.

A small model forgets names, invents numbers and turns duties into permissions, so each rewriting is
compared with its question before it is believed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mark.config import DataPrep
from mark.data_prep.candidates import Candidate, cheap_fault
from mark.data_prep.phrases import content_words

log = logging.getLogger(__name__)

Rewrite = Callable[[Sequence[str]], list[str]]  # questions -> one rewriting each

BATCH = 16
MAX_NEW_TOKENS = 40
MIN_SHARED = 0.5  # of the question's content words, names and numbers aside: below, it is another question
_TASK = "Rewrite this question in other words. Do not answer it: {question}"
# Shown as turns before the question: a small model that is only told what to do answers instead.
_SHOWN = (
    ("Who must keep the books of the club?", "Whose job is it to keep the books of the club?"),
    (
        "Under the Sale Act, when may a buyer refuse the goods?",
        "In which cases is a buyer allowed to refuse the goods under the Sale Act?",
    ),
    (
        "How quickly must the agency publish the list of members?",
        "What is the time limit for the agency to publish the list of members?",
    ),
)
_NUMBER = re.compile(
    r"\b(?:\d[\d.,/]*\d|\d|one|two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|thirty|sixty|ninety|"
    r"hundred|thousand|million|half|third|fourth|first|second|once|twice)\b",
    re.I,
)
_NAME = re.compile(r"(?<=[a-z,:'’] )[A-Z][\w’'-]*|\b[A-Z]{2,}\w*\b")
_QUOTED = re.compile(r"[‘'“\"]([^’'”\"]{2,60})[’'”\"]")
_MODALITY = {
    "must": r"\b(?:must|shall|should|ha(?:s|ve) to|needs? to|required|obliged|supposed|duty|"
    r"obligations?|mandatory|responsible)\b",
    "may": r"\b(?:may|can|could|allowed|permitted|entitled|power|powers|right|rights|authority to)\b",
}
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|without|unless|except\w*|barred|forbid\w*|ban(?:s|ned)?|cannot|prohibit\w*|refus\w*)\b",
    re.I,
)
_KINDS = (
    (
        "how many",
        r"how (?:many|much|high|long|often|soon|quickly|frequently)|(?:within|by|until|from|since|"
        r"as of) (?:what|which|when)|when|deadline|time limit",
    ),
    ("who", r"who|whom|whose|which (?:body|authority|institution|party)"),
    ("where", r"where"),
    ("why", r"why|purpose|reason|aim|what end"),
)


def fault(question: str, rewritten: str, keep: str = "") -> str | None:
    """Why a rewriting is not believed, or None.

    Args:
        question: The rule's question.
        rewritten: The model's.
        keep: A part that must stand in both.
    """
    same = rewritten.strip().lower().rstrip("?") == question.strip().lower().rstrip("?")
    if (
        same
        or not rewritten.endswith("?")
        or rewritten.count("?") > 1
        or re.search(r"[.!:] [A-Z]|\n", rewritten)
    ):
        return "no_single_question"
    if _found(_NUMBER, question) != _found(_NUMBER, rewritten):
        return "numbers"
    if _found(_NAME, question) != _found(_NAME, rewritten) or _found(_QUOTED, question) - _found(
        _QUOTED, rewritten
    ):
        return "names"
    if keep and keep.lower() not in rewritten.lower():
        return "names"
    if _modality(question) != _modality(rewritten) or bool(_NEGATION.search(question)) != bool(
        _NEGATION.search(rewritten)
    ):
        return "modality"
    if _kind(question) != _kind(rewritten):
        return "what_is_asked"
    asked = _plain_words(question)
    if len(asked & _plain_words(rewritten)) < MIN_SHARED * len(asked):
        return "meaning"
    return None


def _found(pattern: re.Pattern[str], text: str) -> set[str]:
    return {match.lower() for match in pattern.findall(f"x {text[:1].lower()}{text[1:]}")}


def _plain_words(text: str) -> set[str]:
    """Stems of the content words that are neither names nor numbers."""
    return {word[:6] for word in content_words(_NUMBER.sub(" ", _NAME.sub(" ", text)))}


def _modality(text: str) -> set[str]:
    return {name for name, words in _MODALITY.items() if re.search(words, text, re.I)}


def _kind(text: str) -> str:
    return next((name for name, words in _KINDS if re.search(rf"\b(?:{words})\b", text, re.I)), "what")


def reworded(
    candidates: Sequence[Candidate], rewrite: Rewrite, limit: int, settings: DataPrep
) -> list[Candidate]:
    """Put the first candidates into the model's words where these can be believed.

    Args:
        candidates: In the order in which they will be tried.
        rewrite: The model.
        limit: How many are given to the model.
        settings: Of the cheap filters, which a rewriting must pass too.

    Returns:
        As many candidates, in the same order.

    Raises:
        ValueError: The model gave another number of rewritings than it was given questions.
    """
    head = list(candidates[:limit])
    done = []
    for start in range(0, len(head), BATCH):
        part = head[start : start + BATCH]
        texts = rewrite([candidate.question for candidate in part])
        done += [_believed(c, text, settings) for c, text in zip(part, texts, strict=True)]
    changed = sum(new.question != old.question for new, old in zip(done, head, strict=True))
    log.info("%d of %d questions reworded by the model", changed, len(head))
    return [*done, *candidates[limit:]]


def _believed(candidate: Candidate, text: str, settings: DataPrep) -> Candidate:
    if fault(candidate.question, text, candidate.keep) is not None:
        return candidate
    other = replace(candidate, question=text)
    return candidate if cheap_fault(other, settings) is not None else other


class LocalRewriter:
    """A chat model from a local folder.

    Args:
        folder: Of `fetch_model`.
    """

    def __init__(self, folder: Path) -> None:
        from mark.models.loading import load_base

        self._model, self._tokenizer = load_base(folder)

    def __call__(self, questions: Sequence[str]) -> list[str]:
        """Greedy rewritings, one a question."""
        import torch

        texts = [self._prompt(question) for question in questions]
        encoded = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            ids = self._model.generate(**encoded, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        written = self._tokenizer.batch_decode(
            ids[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return [text.strip() for text in written]

    def _prompt(self, question: str) -> str:
        shown = [(_TASK.format(question=old), new) for old, new in _SHOWN]
        asked = _TASK.format(question=question)
        if self._tokenizer.chat_template is None:
            return "\n".join(f"{task}\n{new}" for task, new in [*shown, (asked, "")])
        turns = [
            turn
            for task, new in shown
            for turn in ({"role": "user", "content": task}, {"role": "assistant", "content": new})
        ]
        turns.append({"role": "user", "content": asked})
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def rewriter_of(settings: DataPrep, root: Path) -> Rewrite | None:
    """The model that the settings name, or None where paraphrase is off.

    Args:
        settings: The section `data_prep`.
        root: What `paraphrase_model` is relative to.

    Raises:
        ModelError: Its folder is missing or damaged.
    """
    return LocalRewriter(root / settings.paraphrase_model) if settings.paraphrase else None
