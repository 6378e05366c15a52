"""QLoRA: a frozen base in 4 bits; refused in one line where it cannot run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mark.commands.params import compose
from mark.config import Lora, Train, WeightSource, validate
from mark.errors import MarkError
from mark.models import random_weights, storage
from mark.models.loading import load_entry
from mark.models.sources import fetch_model
from mark.models.storage import Storage
from mark.train import plan, train
from mark.train.adapter import build_model
from tests.conftest import ROOT
from tests.train.small import make_inputs, settings

SOURCE = WeightSource.model_construct(
    source="random", wheel=None, repo_id=None, revision=None, path=None, weights_sha256=None,
    architecture="llama", licence="none",
)  # fmt: skip
LORA = Lora(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="auto")


def test_qlora_is_a_recipe_and_leaves_no_trace_where_it_is_off() -> None:
    composed = yaml.safe_load(compose(["train=qlora"], ROOT))["train"]
    assert validate(Train, composed, "train", Path("conf/train/qlora.yaml")).quantization == "nf4"
    assert settings(quantization="nf4").model_dump()["quantization"] == "nf4"
    # entry.json, and the hash of its params, are those of entries from before the key was there
    assert "quantization" not in settings().model_dump()
    assert Train.model_validate(settings().model_dump()).quantization == "none"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_line(tiny_llama_dir: Path, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, tiny_llama_dir)
    for call in (
        lambda: plan(inputs, settings(quantization="nf4"), 7, tmp_path / "models/e"),
        lambda: train(inputs, settings(quantization="nf4"), 7, tmp_path / "models/e", confirmed=True),
    ):
        with pytest.raises(MarkError) as refusal:
            call()
        assert str(refusal.value) == (
            "4-bit weights need a CUDA GPU and this machine shows none; set quantization to none"
        )


def test_without_the_package_or_with_shards_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(storage, "find_spec", lambda _name: None)
    with pytest.raises(MarkError, match="bitsandbytes is not installed: run `pip install bitsandbytes`"):
        Storage(four_bit=True).check(gpu)
    monkeypatch.setattr(storage, "find_spec", lambda _name: object())
    with pytest.raises(
        MarkError, match="4-bit weights are not cut into shards; launch with conf/accelerate/ddp"
    ):
        Storage(four_bit=True, shards=2).check(gpu)
    Storage(four_bit=True).check(gpu)
    Storage(shards=2).check(torch.device("cpu"))


@pytest.mark.long
def test_the_base_is_in_4_bits_and_the_entry_loads_on_the_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bitsandbytes computes on a CPU too, slowly; the refusal is taken out to train through it here."""
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(Storage, "check", lambda *_: None)
    monkeypatch.setattr(random_weights, "_HIDDEN", 64)  # a block of 4-bit weights is no wider than a row
    base = tmp_path / "wide"
    fetch_model(SOURCE, base, seed=0)
    held = {}
    for four_bit in (False, True):
        model, _ = build_model(base, LORA, 0, torch.device("cpu"), True, Storage(four_bit=four_bit))
        held[four_bit] = {
            name: parameter
            for name, parameter in model.named_parameters()
            if name.endswith("q_proj.base_layer.weight")
        }
        trained = [p for p in model.parameters() if p.requires_grad]
        assert len(trained) == 28 and {p.dtype for p in trained} == {torch.float32}
    for name, packed in held[True].items():
        assert packed.dtype == torch.uint8
        assert packed.numel() * 2 == held[False][name].numel()  # two weights a byte

    inputs = make_inputs(tmp_path, base)
    out = tmp_path / "models/tiny_lora"
    result = train(inputs, settings(quantization="nf4", precision="bf16", epochs=3), 7, out, confirmed=True)
    rows = json.loads((out / "curves.json").read_text())
    seen = [row["loss"] for row in rows if row["split"] == "train"]
    assert len(seen) == 21 and seen[-1] < seen[0] - 0.1
    assert result.entry.params["quantization"] == "nf4"
    assert all(bool(tensor.any()) for tensor in load_file(out / "adapter_model.safetensors").values())
    tuned, _ = load_entry(out)
    assert {p.dtype for p in tuned.parameters()} == {torch.float32}
