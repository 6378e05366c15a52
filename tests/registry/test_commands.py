"""`mark models ...` as people type it: what it prints, and one line for a mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from mark.cli import app
from mark.errors import MarkError
from mark.files import write_json

from .conftest import paired_scores, write_entry

Evaluated = Callable[..., None]


def models(*arguments: str) -> str:
    """What a command prints; a MarkError is raised as it is."""
    done = CliRunner().invoke(app, ["models", *arguments])
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "nope"], "no model named 'nope'"),
        (["compare", "nope", "transformer"], "no model named 'nope'"),
        (["compare", "transformer_lora", "transformer"], "transformer_lora was not evaluated"),
        (["promote"], "name an entry"),
        (["promote", "transformer"], "is a base model"),
        (["promote", "transformer_lora"], "not promoted (there is no champion): transformer_lora was not evaluated"),
        (["promote", "transformer_lora", "--force"], "--force needs --reason TEXT"),
        (["promote", "transformer_lora", "--force", "--reason", " "], "--force needs --reason TEXT"),
        (["promote", "transformer_lora", "--reason", "x"], "--reason belongs to --force"),
        (["promote", "transformer_lora", "--force", "--if-better", "--reason", "x"], "contradict each other"),
        (["promote", "--undo"], "no earlier champion to bring back"),
        (["promote", "transformer_lora", "--undo"], "--undo takes no name and no other flag"),
        (["export", "transformer_lora", "--out", "models/transformer_lora"], "belongs to the DVC stage train"),
        (["export", "transformer_lora", "--out", "data/raw/x"], "belongs to the DVC stage corpus"),
        (["export", "transformer_lora", "--out", "data"], "--out data holds other files"),
        (["export", "transformer_lora", "--out", "params.yaml"], "--out params.yaml is a file"),
        (["export", "transformer", "--out", "x"], "is a base model"),
        (["export", "transformer_lora", "--out", "x", "--check"], "x holds no export.json"),
        (["push-to-hub", "transformer_lora", "--repo", "nobody"], "--repo 'nobody': give OWNER/NAME"),
        (["push-to-hub", "transformer_lora", "--repo", "a/b", "--folder", "data"], "data holds no export.json"),
        (["push-to-hub", "transformer_lora", "--repo", "a/b", "--confirm"], "HF_TOKEN is not set"),
        (["remove", "nope", "--confirm"], "no model named 'nope'"),
        (["remove", "transformer_lora", "--confirm"], "belongs to the DVC stage train, which would write it again"),
        (["remove", "transformer", "--confirm"], "models/base/transformer belongs to the DVC stage base_model"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(MarkError) as caught:
        models(*arguments)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert (project / "models/transformer_lora/adapter_model.safetensors").is_file()


def test_list_and_show(project: Path, evaluated: Evaluated) -> None:
    evaluated("transformer_lora", np.full(4, 0.5))
    listed = models("list")
    lines = listed.splitlines()
    assert lines[0].split()[:3] == ["model", "kind", "base"]
    metrics = json.loads((project / "metrics/eval_transformer_lora.json").read_text())[
        "eval_transformer_lora"
    ]
    cell = metrics["handwritten"]["tuned_retrieval"]
    assert f"{100 * cell['token_f1']:.1f} (" in lines[1] and lines[1].split()[0] == "transformer_lora"
    base = metrics["handwritten"]["base_retrieval"]
    assert "random" in lines[2] and f"{100 * base['token_f1']:.1f} (" in lines[2]
    assert "champion: none; `mark models promote NAME` asks the gate" in listed
    assert (project / "models/registry.json").is_file()
    shown = models("show", "transformer_lora", "--card")
    assert "entry on transformer, llama" in shown and "val_loss       0.474712" in shown
    assert (project / "reports/cards/transformer_lora/README.md").is_file()


def test_compare_prints_a_paired_table(project: Path, evaluated: Evaluated) -> None:
    new, old = (scores[0] for scores in paired_scores(np.random.default_rng(4), 1, 0.08))
    write_entry(project, "rl_trained_lora", seed=2)
    evaluated("transformer_lora", old)
    evaluated("rl_trained_lora", new)
    printed = models("compare", "rl_trained_lora", "transformer_lora")
    gain = 100 * (new.mean() - old.mean())
    assert "400 common hand-written questions, 100 clusters" in printed
    assert f"{100 * new.mean():.1f}" in printed and f"{gain:+.1f} (" in printed
    assert printed.splitlines()[-1].startswith("better: token F1 ")
    assert models("compare", "transformer_lora", "rl_trained_lora").splitlines()[-1].startswith("worse: ")


def test_if_better_says_why_not_and_exits_zero(project: Path, evaluated: Evaluated) -> None:
    assert "nothing promoted: no evaluated entry" in models("promote", "--if-better")
    evaluated("transformer_lora", np.full(4, 0.5), verdict="cannot tell")
    for arguments, check in (
        (["transformer_lora", "--if-better"], "better"),
        (["--if-better"], "recorded"),
        (["--if-better", "--again"], "better"),
    ):
        printed = models("promote", *arguments)
        assert f"transformer_lora  no  {check}" in printed and "cannot tell" in printed
        assert "transformer_lora not promoted (there is no champion)" in printed
    assert not (project / "models/champion.json").exists()


def test_force_is_recorded_and_the_champion_cannot_be_removed(project: Path, evaluated: Evaluated) -> None:
    printed = models("promote", "transformer_lora", "--force", "--reason", "a demonstration")
    assert "is the champion now, past the gate (a demonstration)" in printed
    (row,) = json.loads((project / "models/champion.json").read_text())["log"]
    assert (row["entry"], row["forced"], row["reason"]) == ("transformer_lora", True, "a demonstration")
    assert "(forced) over nothing: a demonstration" in models("show", "transformer_lora")
    assert "champion: transformer_lora since" in models("list")
    with pytest.raises(MarkError, match="is the champion since"):
        models("remove", "transformer_lora", "--confirm")
    write_entry(project, "transformer_lora", seed=4)
    assert 'the promoted one is kept: load_model("champion")' in models("list")


def test_remove_tells_first_and_deletes_when_confirmed(project: Path) -> None:
    folder = write_entry(project, "transformer_lora_own")
    assert "would delete models/transformer_lora_own (" in models("remove", "transformer_lora_own")
    assert folder.is_dir()
    assert "deleted models/transformer_lora_own" in models("remove", "transformer_lora_own", "--confirm")
    assert not folder.exists() and "transformer_lora_own" not in models("list")


def test_a_base_that_entries_need_stays(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(MarkError, match="is the base of transformer_lora"):
        models("remove", "transformer", "--confirm")


def test_push_is_a_dry_run(project: Path) -> None:
    (project / "models/transformer_lora/preferences.jsonl").write_text("what people asked\n")
    printed = models("push-to-hub", "transformer_lora", "--repo", "team/law-lora")
    assert "would push transformer_lora to team/law-lora (private)" in printed
    assert "adapter_model.safetensors" in printed and "README.md" in printed
    assert "nothing was sent; --confirm sends it" in printed
    assert "preferences.jsonl" not in printed


def test_a_hub_that_cannot_be_reached_is_one_line_without_the_token(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(MarkError, match="the hub did not take a/b") as caught:
        models("push-to-hub", "transformer_lora", "--repo", "a/b", "--confirm")
    assert "hf_secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_export_and_its_check(project: Path) -> None:
    _few_tokens(project)
    printed = models("export", "transformer_lora", "--out", "exports/one")
    assert "merged: 100 % of 6 answers equal the adapter's" in printed
    assert "AutoModelForCausalLM" in (project / "exports/one/README.md").read_text()
    assert "answers as it does" in models("export", "transformer_lora", "--out", "exports/one", "--check")
    pushed = models("push-to-hub", "transformer_lora", "--repo", "a/b", "--folder", "exports/one")
    assert "model.safetensors" in pushed


def test_promotion_through_the_gate(project: Path, evaluated: Evaluated) -> None:
    _few_tokens(project, forgetting_margin=1.0)
    evaluated("transformer_lora", np.full(4, 0.5), verdict="ship")
    printed = models("promote", "--if-better")
    assert [line.split()[:3] for line in printed.splitlines()[:4]] == [
        ["transformer_lora", "ok", check] for check in ("entry", "better", "forgetting", "parity")
    ]
    assert "transformer_lora is the champion now" in printed
    assert "nothing promoted: no evaluated entry but the champion" in models("promote", "--if-better")


def _few_tokens(project: Path, **registry: float) -> None:
    """Short answers, so that a test takes seconds."""
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["eval"] |= {"max_new_tokens": 6, "batch_size": 4}
    params["train"]["max_seq_length"] = 900
    params["registry"] |= registry
    write_json(path, params)  # JSON is YAML
