"""Loading bases and entries, and what a damaged folder says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mark.errors import ModelError
from mark.models.loading import load_base, load_entry, load_model, preferred_dtype
from mark.models.source_file import base_sha256, read_source
from mark.models.targets import lora_targets


@pytest.fixture
def project(tiny_llama_dir: Path, tmp_path: Path) -> Path:
    """A project with the base `random` and the entry `random_lora`, whose adapter changes the logits."""
    from peft import LoraConfig, get_peft_model

    shutil.copytree(tiny_llama_dir, tmp_path / "models/base/random")
    model, tokenizer = load_base(tmp_path / "models/base/random")
    torch.manual_seed(0)
    config = LoraConfig(
        r=2, target_modules=lora_targets("llama"), init_lora_weights=False, task_type="CAUSAL_LM"
    )
    entry = tmp_path / "models/random_lora"
    get_peft_model(model, config).save_pretrained(entry)
    tokenizer.save_pretrained(entry)
    weights = base_sha256(read_source(tmp_path / "models/base/random"))
    (entry / "entry.json").write_text(json.dumps({"base": "random", "base_sha256": weights}))
    return tmp_path


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[5, 6, 7]])).logits.float()


@pytest.mark.parametrize("name", ["tiny_llama_dir", "tiny_mamba_dir"])
def test_load_base(name: str, request: pytest.FixtureRequest) -> None:
    model, tokenizer = load_base(request.getfixturevalue(name))
    assert not model.training
    assert model.dtype == torch.float32
    assert tokenizer.padding_side == "left"
    assert model.config.pad_token_id == tokenizer.pad_token_id == model.generation_config.pad_token_id
    assert model.config.eos_token_id == tokenizer.eos_token_id == model.generation_config.eos_token_id
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_special_ids_where_pad_was_eos(tiny_llama_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_llama_dir, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "<eos>"}))
    model, tokenizer = load_base(folder)
    assert tokenizer.pad_token == "<pad>"  # known by name
    assert model.config.pad_token_id == tokenizer.pad_token_id
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": None}))
    with pytest.raises(ModelError, match="names no eos_token"):
        load_base(folder)


def test_entry_adds_its_adapter(project: Path) -> None:
    base, _ = load_base(project / "models/base/random")
    tuned, tokenizer = load_entry(project / "models/random_lora")
    assert not tuned.training
    assert tokenizer.padding_side == "left"
    assert not torch.allclose(logits(tuned), logits(base))
    with tuned.disable_adapter():
        assert torch.equal(logits(tuned), logits(base))


def test_load_model(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, device = load_model("random", project)
    assert model.dtype == preferred_dtype(device)
    tuned, _, _ = load_model("random_lora", project)
    assert type(tuned).__name__.startswith("PeftModel")
    (project / "dvc.yaml").write_text("")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(project / "models")
    assert type(load_model("random")[0]) is type(model)
    for name in ("transformer", ""):
        with pytest.raises(ModelError, match=r"there are: random, random_lora\); run `dvc repro base_model`"):
            load_model(name, project)
    with pytest.raises(ModelError, match="there are none"):
        load_model("transformer", project / "nowhere")


def test_public_name() -> None:
    import mark

    assert mark.load_model is load_model


def test_damaged_bases(tiny_llama_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere is missing; run `dvc repro base_model`"):
        load_base(tmp_path / "nowhere")
    folder = tmp_path / "m"
    shutil.copytree(tiny_llama_dir, folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not safetensors at all"):
        weights.write_bytes(damaged)
        with pytest.raises(
            ModelError, match=r"m cannot be loaded \(.*\); run `dvc repro -f base_model`"
        ) as caught:
            load_base(folder)
        assert "\n" not in str(caught.value)
    tensors = load_file(tiny_llama_dir / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing \(model\.layers\.1\.mlp\.up_proj\.weight"):
        load_base(folder)
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle that nobody may open")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base(folder)


def test_damaged_entries(project: Path) -> None:
    entry = project / "models/random_lora"
    adapter = entry / "adapter_model.safetensors"
    tensors = load_file(adapter)
    name = sorted(tensors)[0]
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, adapter)
    with pytest.raises(ModelError, match=r"the adapter does not fit its base \(1 weights"):
        load_entry(entry)
    adapter.write_bytes(b"x")
    with pytest.raises(ModelError, match=r"random_lora cannot be loaded .*; run `dvc repro -f train`"):
        load_entry(entry)
    adapter.unlink()
    (entry / "adapter_model.bin").write_bytes(b"a pickle that nobody may open")
    with pytest.raises(ModelError, match=r"holds no adapter_model\.safetensors; run `dvc repro train`"):
        load_entry(entry)
    (entry / "entry.json").write_text("{}")
    with pytest.raises(ModelError, match=r"entry\.json names no base"):
        load_entry(entry)
    (entry / "entry.json").unlink()
    with pytest.raises(ModelError, match=r"holds no entry\.json"):
        load_entry(entry)


def test_entry_on_other_weights_than_it_was_trained_on(project: Path) -> None:
    entry = project / "models/random_lora/entry.json"
    entry.write_text(json.dumps({"base": "random", "base_sha256": "0" * 64}))
    with pytest.raises(ModelError, match=r"trained on other weights \(000000000000\.\.\.\)"):
        load_entry(entry.parent)
