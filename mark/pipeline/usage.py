"""How many tokens an answer took: those of the prompt that the model read, and those that it wrote."""

from __future__ import annotations

from dataclasses import dataclass

from mark.pipeline.answer import Answer
from mark.pipeline.choice import Answerer
from mark.prompting import Passage, build_prompt


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer; all zero where no model answered."""

    prompt_tokens: int
    completion_tokens: int
    truncated: bool  # the answer fills eval.max_new_tokens


def count_usage(answer: Answer, answerer: Answerer) -> Usage:
    """Count by the model's own tokenizer; the prompt is built again, the answer's text is read again.

    Args:
        answer: As it leaves the pipeline: a refusal counts as such, whatever the model wrote before.
        answerer: Whose answer it is.
    """
    engine, neutral = answerer.engine, answerer.neutral
    if engine is None or neutral is None:
        return Usage(0, 0, False)
    passages = [
        Passage(c.chunk_id, neutral.text(" > ".join(filter(None, [c.title, c.heading]))), c.text)
        for c in answer.contexts
    ]
    prompt = build_prompt(engine.tokenizer, neutral.text(answer.question), passages, engine.prompt_tokens)
    written = len(engine.tokenizer(answer.text, add_special_tokens=False)["input_ids"])
    return Usage(len(prompt.ids), written, not answer.refused and written >= engine.max_new_tokens)
