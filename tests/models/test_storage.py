"""Large bases: how their weights are held stands in SOURCE.json, and whoever loads them follows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mark.answering.merging import for_inference
from mark.commands.params import compose
from mark.config import Model, WeightSource, validate
from mark.errors import ConfigError, MarkError
from mark.files import read_json
from mark.models import loading, random_weights
from mark.models.loading import load_base, load_entry, load_model
from mark.models.source_file import storage_in
from mark.models.sources import fetch_model
from mark.models.storage import WHOLE, Storage, is_placed
from mark.train import train
from tests.conftest import ROOT
from tests.train.small import make_inputs, settings

SPREAD = Storage(spread=True)
NF4 = Storage(four_bit=True)


def source(**changes: Any) -> WeightSource:
    values = {
        "source": "random", "wheel": None, "repo_id": None, "revision": None, "path": None,
        "weights_sha256": None, "architecture": "llama", "licence": "none",
    }  # fmt: skip
    return WeightSource.model_validate(values | changes)


def test_any_model_of_a_hub_is_a_configuration() -> None:
    asked = [
        "model=hub",
        "model.base.repo_id=org/large",
        "model.base.revision=0123abc",
        "model.device_map=auto",
    ]
    found = validate(
        Model, yaml.safe_load(compose([*asked, "model.quantization=nf4"], ROOT))["model"], "model", ROOT
    )
    assert (found.name, found.base.repo_id, found.base.source) == ("hub", "org/large", "hub")
    assert Storage.named(found.quantization, found.device_map) == Storage(four_bit=True, spread=True)
    for missing, told in (
        (["model=hub"], "source=hub needs repo_id"),
        (["model=hub", "model.base.repo_id=org/large"], "source=hub needs revision"),
        (
            ["model=hub", "model.quantization=int3"],
            "model.quantization: 'int3' found; allowed: 'none' or 'nf4'",
        ),
    ):
        with pytest.raises(ConfigError, match=told):
            compose(missing, ROOT)


def test_the_record_holds_it_and_none_of_it_where_it_is_off(tiny_llama_dir: Path, tmp_path: Path) -> None:
    fetch_model(source(), tmp_path / "whole", 0)
    assert (tmp_path / "whole/SOURCE.json").read_bytes() == (tiny_llama_dir / "SOURCE.json").read_bytes()
    assert not {"four_bit", "spread"} & read_json(tmp_path / "whole/SOURCE.json").keys()
    assert storage_in(tmp_path / "whole") == WHOLE == storage_in(tmp_path / "nowhere")
    fetch_model(source(), tmp_path / "both", 0, Storage(four_bit=True, spread=True))
    assert storage_in(tmp_path / "both") == Storage(four_bit=True, spread=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_this_machine_cannot_do_is_one_line(tiny_llama_dir: Path, tmp_path: Path) -> None:
    fetch_model(source(), tmp_path / "models/base/tiny", 0, NF4)
    for call in (
        lambda: load_base(tmp_path / "models/base/tiny"),
        lambda: load_model("tiny", tmp_path),
        lambda: train(
            make_inputs(tmp_path, tiny_llama_dir), settings(), 7, tmp_path / "models/e", confirmed=True
        ),
    ):
        with pytest.raises(MarkError, match="4-bit weights need a CUDA GPU and this machine shows none"):
            call()


def test_a_base_spread_over_devices_stays_unmerged_and_has_no_rlhf(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` on a machine without a GPU is the CPU alone; what several devices would mean is set by hand."""
    from mark.rlhf.policy import load_policy

    inputs = make_inputs(tmp_path, tiny_llama_dir)
    out = tmp_path / "models/tiny_lora"
    train(inputs, settings(max_steps=2), 7, out, confirmed=True)
    record = inputs.base_folder / "SOURCE.json"
    record.write_text(json.dumps(read_json(record) | {"spread": True}))
    spread, _ = load_entry(out)
    assert not is_placed(spread)
    spread.get_base_model().hf_device_map = {"model": 0, "lm_head": 1}
    assert is_placed(spread) and for_inference(spread, torch.float64) is spread
    assert torch.float64 not in {p.dtype for p in spread.parameters()}
    with pytest.raises(
        MarkError, match=r"RLHF needs the base's weights whole on one device; set model\.quant"
    ):
        load_policy(out, torch.device("cpu"))
    again = tmp_path / "models/again_lora"
    train(inputs, settings(max_steps=2), 7, again, confirmed=True)
    assert (again / "adapter_model.safetensors").read_bytes() == (
        out / "adapter_model.safetensors"
    ).read_bytes()


def test_a_base_that_does_not_fit_the_gpus_is_one_line(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really spread, with a layer on the disk, where transformers puts what fits nowhere else."""
    assert SPREAD.arguments(torch.float32, torch.device("cpu")) == {"device_map": "auto"}
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    places |= {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    arguments = {"device_map": places, "offload_folder": str(tmp_path / "offloaded")}
    monkeypatch.setattr(Storage, "arguments", lambda *_: arguments)
    with pytest.raises(
        MarkError, match="does not fit the GPUs of this machine together; set model.quantization"
    ):
        load_base(tiny_llama_dir, storage=SPREAD)


def test_training_in_4_bits_multiplies_as_its_record_says(
    tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only answers takes the device's best precision; training's stands in entry.json."""
    asked: list[torch.dtype] = []

    def arguments(_storage: Storage, dtype: torch.dtype, _device: torch.device) -> dict[str, Any]:
        asked.append(dtype)
        return {}

    monkeypatch.setattr(Storage, "check", lambda *_: None)
    monkeypatch.setattr(Storage, "arguments", arguments)
    monkeypatch.setattr(loading, "preferred_dtype", lambda _device: torch.bfloat16)
    monkeypatch.setattr(loading, "storage_in", lambda _folder: NF4)
    load_base(tiny_llama_dir, torch.float32, storage=NF4)
    load_base(tiny_llama_dir, torch.float32)
    assert asked == [torch.float32, torch.bfloat16]


@pytest.mark.long
def test_an_entry_answers_on_a_base_in_4_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes computes on a CPU too; the refusal is taken out to run it here."""
    pytest.importorskip("bitsandbytes")
    from mark.answering.engine import Engine, Request
    from mark.prompting import Passage

    monkeypatch.setattr(Storage, "check", lambda *_: None)
    monkeypatch.setattr(random_weights, "_HIDDEN", 64)
    fetch_model(source(), tmp_path / "wide", 0, NF4)
    inputs = make_inputs(tmp_path, tmp_path / "wide")
    out = tmp_path / "models/tiny_lora"
    train(inputs, settings(max_steps=2, precision="bf16"), 7, out, confirmed=True)
    shutil.rmtree(tmp_path / "wide")
    model, tokenizer = load_entry(out)
    assert is_placed(model)
    packed = [p for n, p in model.named_parameters() if n.endswith("q_proj.base_layer.weight")]
    assert {p.dtype for p in packed} == {torch.uint8}
    engine = Engine(for_inference(model, torch.float32), tokenizer, 600, 6, 2)
    (answer,) = engine.generate([Request("How much?", (Passage("a", "Act", "The fee is 3."),))], label=None)
    assert 0.0 <= answer.refusal_probability <= 1.0 and answer.mean_logprob < 0
