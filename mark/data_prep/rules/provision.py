"""The rule that stands under a heading."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mark.data_prep.phrases import content_words
from mark.data_prep.rules.base import Draft, Source, clean_answer


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions about the main rule on a section's subject."""
    statement, topic = source.statement, source.topic
    if not topic or " not to " in topic or not source.opens_section or not statement.first or statement.cut:
        return
    whole = re.sub(r"^(?:\d+\.|\(\w+\))\s+", "", statement.text)
    answer = clean_answer(whole)
    if (answer != whole.strip().strip(",;") or "., " in answer) or (
        answer.endswith((":", "—", "–"))
        or len(answer.split()) < 6
        or re.match(r"(?i)for the purposes? of this", answer)
    ):
        return
    if not set(content_words(topic)) & set(content_words(answer)):
        return
    number = re.match(r"Article \d+[A-Z]*$", source.chunk.section)
    questions = [
        f"What is the basic rule on {topic}",
        f"What is provided about {topic}",
        f"What does the law say about {topic}",
        f"What is laid down on {topic}",
        f"What is the main rule concerning {topic}",
        f"What are the rules on {topic}",
        f"What should I know about {topic}",
        f"Which rule governs {topic}",
        f"What applies to {topic}",
    ]
    if topic.startswith(("the right to", "right to", "rights of")):
        named = topic.removeprefix("the ")
        questions = [
            f"What is the {named}",
            f"What does the {named} consist of",
            f"What does the {named} give people",
            f"Do people have a {named}",
        ]
    if re.match(r"(?:duties|duty|obligations?|powers?|tasks|functions) of ", topic):
        questions = [f"What are the {topic}", f"Which {topic} are laid down", f"What are the main {topic}"]
    if number:
        questions += [
            f"What does {number.group()} of {rng.choice(source.names.names)} say",
            f"What is the first rule in {number.group()} of {rng.choice(source.names.names)}",
        ]
    terse = (topic, f"{topic} rules", f"{topic} {source.chunk.section}")
    yield Draft(tuple(questions), answer, "full", statement.text, terse)
