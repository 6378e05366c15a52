"""The engine against transformers' own generation, for both architectures, plain and with an adapter."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mark.answering.engine import Engine, Request
from mark.answering.growing_cache import ROOM
from mark.answering.merging import for_inference
from mark.errors import DataError
from mark.models.loading import load_base
from mark.models.packed_attention import uses_packed_attention
from mark.models.targets import lora_targets
from mark.prompting import REFUSAL, Passage, build_prompt

LENGTH, NEW = 640, 10
REQUESTS = [
    Request(
        "When is the rent due?", (Passage("c1", "Lease > Article 2", "The rent is due within five days."),)
    ),
    Request("Who elects the board?"),
    Request(
        "How long are records kept, and by whom, and where are they kept?",
        (
            Passage("c2", "Policy", "Seven years."),
            Passage("c3", "Statute", "The treasurer keeps the accounts."),
        ),
    ),
    Request("What is the fee?", (Passage("c4", "Statute", "The annual fee is 60 euros."),)),
    Request("Who elects the board?"),
]


def with_adapter(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    targets = lora_targets(model.config.model_type)
    return get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False)).eval()


@torch.inference_mode()
def plain_greedy(model: Any, tokenizer: Any, request: Request) -> tuple[list[int], Any]:
    """Greedy token ids by transformers' generate, one request at a time, and the prompt."""
    prompt = build_prompt(tokenizer, request.question, request.passages, LENGTH - NEW)
    ids = torch.tensor([prompt.ids])
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW
    )
    return out[0, len(prompt.ids) :].tolist(), prompt


@torch.inference_mode()
def forced_probability(model: Any, prompt_ids: list[int], tokens: list[int]) -> float:
    """Product of the probabilities of `tokens` after a prompt, in one plain forward pass."""
    logits = model(input_ids=torch.tensor([prompt_ids + tokens])).logits[0].float().log_softmax(dim=-1)
    return math.exp(sum(float(logits[len(prompt_ids) - 1 + i, token]) for i, token in enumerate(tokens)))


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("folder", ["tiny_llama_dir", "tiny_mamba_dir"])
def test_batched_answers_equal_plain_generation(
    folder: str, adapter: bool, request: pytest.FixtureRequest
) -> None:
    model, tokenizer = load_base(request.getfixturevalue(folder))
    model = with_adapter(model) if adapter else model
    engine = Engine(model, tokenizer, LENGTH, NEW, batch_size=3)
    found = engine.generate(REQUESTS)
    for asked, answer in zip(REQUESTS, found, strict=True):
        tokens, prompt = plain_greedy(model, tokenizer, asked)
        assert answer.raw_text == tokenizer.decode(tokens, skip_special_tokens=True).strip()
        expected = forced_probability(model, prompt.ids, engine.refusal_ids)
        assert answer.refusal_probability == pytest.approx(expected, rel=1e-4)
        assert list(answer.passages_shown) == prompt.passages
    assert found[1] is found[4], "equal requests are answered once"


def test_a_sliding_window_no_shorter_than_a_prompt_hides_nothing_of_a_batch(tiny_llama_dir: Path) -> None:
    from transformers import AutoModelForCausalLM, MistralConfig

    _, tokenizer = load_base(tiny_llama_dir)
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=LENGTH, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    asked = [Request(f"{'Who pays? ' * (30 + i)}", ()) for i in range(9)]
    plain = [plain_greedy(model, tokenizer, request)[0] for request in asked]
    engine = Engine(model, tokenizer, LENGTH, NEW, 9)
    assert uses_packed_attention(model)
    assert sum(len(build_prompt(tokenizer, one.question, (), LENGTH - NEW).ids) for one in asked) > LENGTH
    for answer, tokens in zip(engine.generate(asked, None), plain, strict=True):
        assert answer.raw_text == tokenizer.decode(tokens, skip_special_tokens=True).strip()


def test_short_prompts_among_long_ones_do_not_make_a_batch_larger(tiny_llama_dir: Path) -> None:
    engine = Engine(*load_base(tiny_llama_dir), LENGTH, NEW, 2)
    passage = (Passage("c", "H", "t"),)
    lengths = [600, 20, 20, 590, 580, 570, 560, 550]  # the first three have no passages and stand together
    batches = list(engine._batches(lengths, [(), (), (), *[passage] * 5]))
    assert sorted(i for batch in batches for i in batch) == list(range(8))
    assert all(len(batch) <= 2 for batch in batches if max(lengths[i] for i in batch) > 500)


@pytest.mark.parametrize("rows", [2, 16])
def test_prompts_read_end_to_end_are_answered_as_padded_ones(
    rows: int, tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions on shared passages, more tokens than a cache has room for at once, rows that end on the way."""
    shared = REQUESTS[2].passages
    asked = [Request(f"What is kept for how long in case {i}?", shared[: 1 + i % 2]) for i in range(7)]
    found = {}
    for packed in (True, False):
        monkeypatch.setattr("mark.answering.engine.attention_fits", lambda *_, packed=packed: packed)
        model, tokenizer = load_base(tiny_llama_dir)
        engine = Engine(with_adapter(model), tokenizer, LENGTH, ROOM + 5, rows)
        engine.eos_id = 7  # now and then a random model writes it
        found[packed] = engine.generate([*asked, *REQUESTS], None)
    for ours, padded in zip(found[True], found[False], strict=True):
        assert (ours.text, ours.raw_text) == (padded.text, padded.raw_text)
        assert ours.mean_logprob == pytest.approx(padded.mean_logprob, rel=1e-4)
        assert ours.refusal_probability == pytest.approx(padded.refusal_probability, rel=1e-3)
    assert len({answer.mean_logprob for answer in found[True]}) > 5


@pytest.mark.parametrize("padded_too", [False, True])
def test_a_state_space_model_reads_shared_passages_once(
    padded_too: bool, tiny_mamba_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One passage, two that begin with it, none; questions of one word and of thirty."""
    shown = REQUESTS[2].passages
    asked = [
        Request(f"Why {i}?{' And when?' * (i % 3 * 9)}", shown[:count])
        for i in range(4)
        for count in ((0, 1, 2) if padded_too else (2,))
    ]
    read: list[int] = []
    found = {}
    for once in (True, False):
        monkeypatch.setattr("mark.answering.recurrent.installed", lambda once=once: once)
        model, tokenizer = load_base(tiny_mamba_dir)
        model.register_forward_pre_hook(
            lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
        )
        engine = Engine(with_adapter(model), tokenizer, LENGTH, NEW, 16)
        engine.eos_id = 7
        found[once] = engine.generate(asked, None)
        found[once, "read"] = sum(read)
        read.clear()
    assert found[True, "read"] < 0.75 * found[False, "read"]
    for ours, padded in zip(found[True], found[False], strict=True):
        assert (ours.text, ours.raw_text) == (padded.text, padded.raw_text)
        assert ours.mean_logprob == pytest.approx(padded.mean_logprob, rel=1e-4)
        assert ours.refusal_probability == pytest.approx(padded.refusal_probability, rel=1e-3)
    assert len({answer.mean_logprob for answer in found[True]}) > len(asked) // 2


@pytest.mark.parametrize("folder", ["tiny_llama_dir", "tiny_mamba_dir"])
def test_a_refusing_greedy_answer_is_written_again_without_the_refusal(
    folder: str, request: pytest.FixtureRequest
) -> None:
    model, tokenizer = load_base(request.getfixturevalue(folder))
    engine = Engine(model, tokenizer, LENGTH, NEW, batch_size=4)
    tokens, prompt = plain_greedy(model, tokenizer, REQUESTS[0])
    engine.barred_ids = [engine.eos_id, tokens[0]]
    engine.refusal_ids = tokens[:3]  # what this random model writes by itself plays the refusal
    answer = engine.generate(REQUESTS[:4])[0]
    assert answer.raw_text == REFUSAL
    assert answer.refusal_probability == pytest.approx(
        forced_probability(model, prompt.ids, tokens[:3]), rel=1e-4
    )
    with torch.inference_mode():
        first = model(input_ids=torch.tensor([prompt.ids])).logits[0, -1].clone()
        first[[tokens[0], tokenizer.eos_token_id]] = -math.inf
    second_best = tokenizer.decode([int(first.argmax())], skip_special_tokens=True).strip()
    assert answer.text.startswith(second_best)


def test_the_refusal_is_barred_in_every_way_of_writing_it(smollm2_dir: Path) -> None:
    model, tokenizer = load_base(smollm2_dir, torch.float32, torch.device("cpu"))
    engine = Engine(model, tokenizer, LENGTH, NEW, batch_size=1)
    barred = {tokenizer.decode([token]) for token in engine.barred_ids}
    assert {"Not", "not", " Not", " not"} <= barred


def test_answers_end_at_the_end_token_while_others_go_on(tiny_llama_dir: Path) -> None:
    model, tokenizer = load_base(tiny_llama_dir)
    plain = [plain_greedy(model, tokenizer, asked)[0] for asked in REQUESTS[:4]]
    engine = Engine(model, tokenizer, LENGTH, NEW, batch_size=4)
    engine.eos_id = plain[2][4]  # some rows end early, their rows leave the batch
    for tokens, answer in zip(plain, engine.generate(REQUESTS[:4]), strict=True):
        kept = tokens[: tokens.index(engine.eos_id)] if engine.eos_id in tokens else tokens
        assert answer.text == tokenizer.decode(kept, skip_special_tokens=True).strip()


def test_mean_logprob_is_that_of_the_written_tokens(tiny_llama_dir: Path) -> None:
    model, tokenizer = load_base(tiny_llama_dir)
    tokens, prompt = plain_greedy(model, tokenizer, REQUESTS[1])
    answer = Engine(model, tokenizer, LENGTH, NEW, batch_size=1).generate(REQUESTS[1:2])[0]
    expected = math.log(forced_probability(model, prompt.ids, tokens)) / len(tokens)
    assert answer.mean_logprob == pytest.approx(expected, rel=1e-4)


def test_long_passages_are_shortened_and_reported_as_shown(tiny_llama_dir: Path) -> None:
    model, tokenizer = load_base(tiny_llama_dir)
    sentence = "The tenant pays the rent. "
    long = Request(
        "Who pays?", (Passage("c1", "Lease", "Short one."), Passage("c2", "Lease", sentence * 400))
    )
    answer = Engine(model, tokenizer, LENGTH, NEW, batch_size=1).generate([long])[0]
    assert answer.passages_shown[0].text == "Short one."
    assert len(answer.passages_shown[-1].text) < len(sentence * 400)


def test_a_question_that_does_not_fit_is_an_error(tiny_llama_dir: Path) -> None:
    model, tokenizer = load_base(tiny_llama_dir)
    engine = Engine(model, tokenizer, LENGTH, NEW, batch_size=1)
    with pytest.raises(DataError, match=r"train\.max_seq_length"):
        engine.generate([Request("why " * 2000)])


@pytest.mark.parametrize("folder", ["tiny_llama_dir", "tiny_mamba_dir"])
def test_merging_an_adapter_changes_no_answer(folder: str, request: pytest.FixtureRequest) -> None:
    tuned = with_adapter(load_base(request.getfixturevalue(folder))[0])
    tokenizer = load_base(request.getfixturevalue(folder))[1]
    before = Engine(tuned, tokenizer, LENGTH, NEW, batch_size=4).generate(REQUESTS[:3])
    merged = for_inference(tuned, torch.float32)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    after = Engine(merged, tokenizer, LENGTH, NEW, batch_size=4).generate(REQUESTS[:3])
    assert [a.text for a in after] == [b.text for b in before]
    for new, old in zip(after, before, strict=True):
        assert new.refusal_probability == pytest.approx(old.refusal_probability, rel=1e-3)


def test_smollm2_answers_from_a_passage(smollm2_dir: Path) -> None:
    model, tokenizer = load_base(smollm2_dir)
    engine = Engine(model, tokenizer, 512, 24, batch_size=2)
    lease = Passage(
        "c1", "Lease > Article 2 Payment", "The rent is 900 euros and is due on the first day of each month."
    )
    found = engine.generate([Request("How high is the rent?", (lease,)), Request("How high is the rent?")])
    assert "900" in found[0].text
    assert all(0 < answer.refusal_probability <= 1 for answer in found)
