"""A folder that the GPU rows run from on a machine that has not the project's data.

    python -m bench.carried FOLDER               # here: config and tokenizer of the base, rows, questions
    MARK_BENCH=FOLDER python -m bench.training   # there; also bench.answering

The base's weights stay behind (540 MB); without `FOLDER/base/model.safetensors` seeded random ones of the
same shape take their place, whose speed is the same and whose answers are nonsense.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mark.errors import ConfigError

if TYPE_CHECKING:
    from mark.answering.engine import Request

VARIABLE = "MARK_BENCH"
TOKENS, ANSWER = 384, 16  # of a training row, and of its answer
ROWS, QUESTIONS = 512, 500
SEED = 11
_BASE_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
RANDOM = "random weights of the base's shape"


def folder() -> Path | None:
    """What MARK_BENCH names.

    Raises:
        ConfigError: It is no folder that `write` wrote.
    """
    named = os.environ.get(VARIABLE)
    if named and not (Path(named) / "base/config.json").is_file():
        raise ConfigError(
            f"{VARIABLE}: {named} holds no base/config.json; `python -m bench.carried FOLDER` writes it"
        )
    return Path(named) if named else None


def write(target: Path) -> None:
    """Write the folder from the project's data."""
    from bench.project import Project

    project = Project()
    (target / "base").mkdir(parents=True, exist_ok=True)
    for name in _BASE_FILES:
        if (project.base / name).is_file():
            shutil.copyfile(project.base / name, target / "base" / name)
    for name, rows in (("rows", training_rows(project)), ("questions", _questions(project))):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (target / f"{name}.jsonl").write_text(text, encoding="utf-8")


def training_rows(project: Any) -> list[dict[str, Any]]:
    """The project's examples one after another, cut into rows of 384 tokens whose last 16 are the answer."""
    from mark.train.data import encode_example

    line: list[int] = []
    for example in project.examples:
        line += encode_example(example, project.chunks, project.tokenizer, project.train.max_seq_length)[0]
        if len(line) >= ROWS * TOKENS:
            break
    while len(line) < ROWS * TOKENS:
        line += line
    return [
        {"input_ids": line[i : i + TOKENS], "answer_start": TOKENS - ANSWER}
        for i in range(0, ROWS * TOKENS, TOKENS)
    ]


def _questions(project: Any) -> list[dict[str, Any]]:
    return [asdict(request) for request in requests_of(project, QUESTIONS)]


def requests_of(project: Any, count: int) -> list[Request]:
    """So many questions, each with the passages that training shows."""
    from mark.answering.engine import Request
    from mark.prompting import Passage

    examples = [e for e in project.examples if e.contexts]
    found = []
    for i in range(count):
        example, again = examples[i % len(examples)], i // len(examples)
        shown = tuple(Passage.from_chunk(project.chunks[chunk_id]) for chunk_id in example.contexts)
        found.append(Request(example.question + " " * again, shown))
    return found


class Carried:
    """Base, rows and questions: of the folder that MARK_BENCH names, else of the project."""

    def __init__(self) -> None:
        from bench.project import Project

        self.folder, self.note = folder(), ""
        self.project = Project()
        if self.folder is not None and not (self.folder / "base/model.safetensors").is_file():
            _random_weights(self.folder / "base")
        if self.folder is not None and (self.folder / "base/RANDOM").is_file():
            self.note = RANDOM

    @property
    def base(self) -> Path:
        """The base model's folder."""
        return self.project.base if self.folder is None else self.folder / "base"

    def rows(self) -> list[dict[str, Any]]:
        """Training rows of `training_rows`."""
        return training_rows(self.project) if self.folder is None else _lines(self.folder / "rows.jsonl")

    def requests(self) -> list[Request]:
        """500 questions with their passages."""
        if self.folder is None:
            return requests_of(self.project, QUESTIONS)
        from mark.answering.engine import Request
        from mark.prompting import Passage

        found = _lines(self.folder / "questions.jsonl")
        return [
            Request(one["question"], tuple(Passage(**shown) for shown in one["passages"])) for one in found
        ]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _random_weights(base: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(SEED)
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(base)
    (base / "RANDOM").touch()


def main(asked: Sequence[str]) -> int:
    """Write the folder."""
    if len(asked) != 1:
        sys.stderr.write("python -m bench.carried FOLDER\n")
        return 2
    write(Path(asked[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
