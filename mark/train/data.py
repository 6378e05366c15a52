"""From examples to token ids: prompts through the one builder, answers never shortened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mark.errors import DataError
from mark.prompting import Passage, answer_ids, build_prompt
from mark.records import Chunk, Example

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def encode(
    examples: Sequence[Example],
    chunks: Mapping[str, Chunk],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
) -> Dataset:
    """Token ids of prompt + answer for each example.

    Args:
        examples: In the order that row numbers follow.
        chunks: By chunk id.
        tokenizer: The base model's.
        max_seq_length: Tokens of prompt and answer together; passages are shortened to fit.

    Returns:
        Columns `input_ids` (int32, prompt then answer then EOS) and `answer_start` (index of the
        answer's first token).

    Raises:
        DataError: A context is not among the chunks, or an answer leaves no room for its question.
    """
    from datasets import Dataset, Features, List, Value

    rows = [encode_example(example, chunks, tokenizer, max_seq_length) for example in examples]
    columns = {"input_ids": [ids for ids, _ in rows], "answer_start": [start for _, start in rows]}
    features = Features({"input_ids": List(Value("int32")), "answer_start": Value("int32")})
    return Dataset.from_dict(columns, features=features)


def encode_example(
    example: Example,
    chunks: Mapping[str, Chunk],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
) -> tuple[list[int], int]:
    """One example's ids and where its answer begins; see `encode`."""
    missing = [chunk_id for chunk_id in example.contexts if chunk_id not in chunks]
    if missing:
        raise DataError(
            f"example {example.example_id} cites chunk {missing[0][:12]} that is not in data/chunks.jsonl; "
            "run `dvc repro data_prep`"
        )
    answer = answer_ids(tokenizer, example.answer)
    passages = [Passage.from_chunk(chunks[chunk_id]) for chunk_id in example.contexts]
    try:
        prompt = build_prompt(tokenizer, example.question, passages, max_seq_length - len(answer))
    except DataError as fault:
        raise DataError(
            f"example {example.example_id}: {fault} (its answer takes {len(answer)} of "
            f"train.max_seq_length: {max_seq_length})"
        ) from None
    return [*prompt.ids, *answer], len(prompt.ids)


def memory_mapped(dataset: Dataset, folder: Path) -> Dataset:
    """The same dataset read through the page cache instead of held in memory.

    Args:
        dataset: Rows of `encode`.
        folder: A private folder that outlives the dataset's use; never the user's global cache.
    """
    import datasets

    if len(dataset) == 0:
        return dataset
    shown = datasets.utils.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        dataset.save_to_disk(folder)
        return datasets.load_from_disk(folder, keep_in_memory=False)
    finally:
        if shown:
            datasets.enable_progress_bars()


def lengths(dataset: Dataset) -> list[int]:
    """Tokens of each row."""
    return [len(ids) for ids in dataset["input_ids"]]
