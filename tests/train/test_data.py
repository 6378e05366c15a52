"""Encoding and collating: the prompt builder's ids, labels on answers only, order by seed and epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mark.errors import DataError
from mark.models.loading import load_tokenizer
from mark.prompting import Passage, answer_ids, build_prompt
from mark.train.collator import IGNORED, AnswerCollator
from mark.train.data import encode, encode_example, lengths, memory_mapped
from mark.train.sampler import EpochSampler, epoch_order, places_by_beginning
from tests.train.small import chunk, example

CHUNKS = [chunk(number) for number in range(20)]
BY_ID = {each.chunk_id: each for each in CHUNKS}


def test_a_row_is_prompt_then_answer_then_eos(tiny_llama_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama_dir)
    one = example(1, "train", CHUNKS)
    ids, start = encode_example(one, BY_ID, tokenizer, 700)
    answer = answer_ids(tokenizer, one.answer)
    prompt = build_prompt(
        tokenizer, one.question, [Passage.from_chunk(BY_ID[c]) for c in one.contexts], 700 - len(answer)
    )
    assert ids == [*prompt.ids, *answer]
    assert start == len(prompt.ids)
    assert ids[-1] == tokenizer.eos_token_id


def test_contexts_are_shortened_and_the_answer_never(tiny_llama_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama_dir)
    one = example(1, "train", CHUNKS)
    whole, _ = encode_example(one, BY_ID, tokenizer, 700)
    ids, start = encode_example(one, BY_ID, tokenizer, len(whole) - 1)
    assert len(ids) < len(whole)
    assert ids[start:] == answer_ids(tokenizer, one.answer)


def test_an_unknown_context_is_named(tiny_llama_dir: Path) -> None:
    with pytest.raises(DataError, match="train-1 cites chunk 0000"):
        encode([example(1, "train", CHUNKS)], {}, load_tokenizer(tiny_llama_dir), 700)


def test_an_answer_without_room_names_example_and_setting(tiny_llama_dir: Path) -> None:
    with pytest.raises(DataError, match=r"example train-1: .*train\.max_seq_length: 64"):
        encode([example(1, "train", CHUNKS)], BY_ID, load_tokenizer(tiny_llama_dir), 64)


def test_memory_mapped_rows_are_the_same(tiny_llama_dir: Path, tmp_path: Path) -> None:
    rows = encode([example(i, "train", CHUNKS) for i in range(3)], BY_ID, load_tokenizer(tiny_llama_dir), 700)
    mapped = memory_mapped(rows, tmp_path / "rows")
    assert mapped.to_dict() == rows.to_dict()
    assert [Path(each["filename"]).parent for each in mapped.cache_files] == [tmp_path / "rows"]
    assert lengths(mapped) == [len(ids) for ids in rows["input_ids"]]


def test_the_collator_pads_right_and_labels_answers_even_where_pad_equals_eos() -> None:
    # EOS = pad = 2; both answers end in EOS, which must be learnt
    batch = AnswerCollator(pad_id=2)(
        [{"input_ids": [5, 6, 7, 2], "answer_start": 2}, {"input_ids": [5, 2], "answer_start": 1}]
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7, 2], [5, 2, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    i = IGNORED
    assert batch["labels"].tolist() == [[i, i, 7, 2], [i, 2, i, i]]


@pytest.mark.parametrize("by_length", [True, False])
def test_the_order_is_a_permutation_of_seed_and_epoch(by_length: bool) -> None:
    sizes = torch.randint(10, 900, (103,), generator=torch.Generator().manual_seed(1)).tolist()
    sampler = EpochSampler(sizes, group=8, seed=3, by_length=by_length)
    first = list(sampler)
    torch.manual_seed(99)  # the global generator has no say
    assert list(sampler) == first
    assert sorted(first) == list(range(103))
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_grouping_puts_like_lengths_together_and_the_longest_first() -> None:
    sizes = torch.randint(10, 900, (256,), generator=torch.Generator().manual_seed(1)).tolist()
    order = epoch_order(sizes, group=8, seed=0, by_length=True)
    assert max(sizes) in [sizes[row] for row in order[:8]]

    def padding(rows: list[int]) -> int:
        batches = [[sizes[row] for row in rows[i : i + 8]] for i in range(0, len(rows), 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(order) < 0.2 * padding(epoch_order(sizes, group=8, seed=0, by_length=False))


def test_rows_with_the_same_passages_share_a_step_and_the_longest_comes_first() -> None:
    rows = [[1, row % 8, 9, *[row] * (row % 5)] for row in range(67)]  # eight rows or nine begin alike
    sizes = [len(row) for row in rows]
    order = epoch_order(sizes, group=8, seed=0, by_length=True, places=places_by_beginning(rows))
    assert sorted(order) == list(range(67))
    steps = [order[i : i + 8] for i in range(0, 64, 8)]
    assert max(sizes) in [sizes[row] for row in steps[0]]
    assert all(len({row % 8 for row in step}) <= 2 for step in steps)
    plain = epoch_order(sizes, group=8, seed=0, by_length=True)
    assert any(len({row % 8 for row in plain[i : i + 8]}) > 2 for i in range(0, 64, 8))
    assert order != epoch_order(sizes, group=8, seed=1, by_length=True, places=places_by_beginning(rows))


def test_fewer_rows_than_a_group_are_all_served() -> None:
    assert sorted(epoch_order([5, 9, 7], group=8, seed=0, by_length=True)) == [0, 1, 2]
