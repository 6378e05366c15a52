"""/v1/experiments: the committed run, and files of a run that are damaged or missing."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mark.serve.stored_run import MAX_BYTES
from tests.conftest import ROOT
from tests.pipeline.conftest import promote
from tests.serve.conftest import TOKEN, StartServer

COMPARE = "metrics/compare.json"


@pytest.fixture
def run(make_root: Any) -> Path:
    """A project that holds the committed run."""
    root: Path = make_root(["transformer_lora"])
    for name in ("metrics", "plots"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "params.yaml", root)
    rows = [{"step": 1, "split": "train", "loss": 1.5}, {"step": 1, "split": "val", "loss": 1.25}]
    policy = [{"step": 0, "val_reward": 0.5, "val_kl": 0.0}]
    (root / "plots/train").mkdir()
    (root / "plots/train/transformer_lora.json").write_text(json.dumps(rows))
    (root / "plots/train/rl_trained_lora.json").write_text(json.dumps(policy))
    return root


def asked(start: StartServer, root: Path) -> Any:
    live = start(models=(), root=root)
    with live.client() as client:
        found = client.get("/v1/experiments")
    assert found.status_code == 200, found.text
    assert str(root) not in found.text
    return found.json()


def stored(name: str) -> Any:
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


def test_the_committed_run_is_told(start: StartServer, run: Path) -> None:
    promote(run, "transformer_lora")
    found = asked(start, run)
    compared = stored(COMPARE)["compare"]
    assert (found["missing"], found["notes"]) == ([], [])
    told = found["comparison"]
    assert {one["entry"]: one["verdict"] for one in told["judged"]} == compared["verdict"]
    assert {one["entry"]: one["reason"] for one in told["judged"]} == compared["reason"]
    for one in told["judged"]:
        gains = {f"over {gain.pop('over')}": gain for gain in one["gains"]}
        assert {gain.pop("metric") for gain in gains.values()} == {"token_f1"}
        assert gains == compared["gain"][one["entry"]]
    for name in ("questions", "clusters", "models", "seen_in_training", "unseen_questions"):
        assert told[name] == compared[name]
    bars = [{"model": row.pop("label"), **row} for row in told["bars"]]
    drawn = stored("plots/compare.json")
    key = lambda row: (row["model"], row["questions"], row["metric"])  # noqa: E731
    assert sorted(bars, key=key) == sorted(drawn, key=key)
    assert list(dict.fromkeys(row["model"] for row in bars)) == compared["models"]
    assert found["champion"]["entry"] == "transformer_lora" and found["champion"]["reason"] == "better"


def test_rlhf_and_the_curves_are_those_of_the_plots(start: StartServer, run: Path) -> None:
    found = asked(start, run)
    rlhf = stored("metrics/rlhf.json")["rlhf"]
    for name in ("method", "pairs", "steps", "kept", "verdict", "reason", "too_few_to_judge"):
        assert found["rlhf"][name] == rlhf[name]
    assert found["rlhf"]["questions"] == rlhf[rlhf["verdict_on"]]["questions"]
    assert found["rlhf"]["frontier"] == stored("plots/rlhf_reward_kl.json")
    assert len(found["rlhf"]["arms"]) == len(stored("plots/rlhf_arms.json"))
    entries = {one["entry"]: one for one in found["entries"]}
    assert set(entries) == {"transformer_lora", "rl_trained_lora"}
    for name, one in entries.items():
        assert one["refusal"] == stored(f"plots/refusal_{name}.json")
        assert len(one["grid"]) == len(stored(f"plots/eval_grid_{name}.json"))
    assert [row["loss"] for row in entries["transformer_lora"]["training"]] == [1.5, 1.25]
    assert entries["rl_trained_lora"]["training"][0]["val_reward"] == 0.5


def test_a_project_without_a_run_says_what_makes_one(start: StartServer, make_root: Any) -> None:
    found = asked(start, make_root([]))
    assert (found["comparison"], found["rlhf"], found["champion"]) == (None, None, None)
    assert {COMPARE, "metrics/rlhf.json", "plots/train/random_lora.json"} <= set(found["missing"])
    assert len(found["notes"]) == len(found["missing"])
    assert f"{COMPARE} is missing; run `dvc repro compare` (or `dvc pull`) to make it" in found["notes"]


def changed(**values: Any) -> str:
    content = stored(COMPARE)
    content["compare"] |= values
    return json.dumps(content)


DAMAGED_TABLES = [
    ("", "EOF"),
    ("{}", "compare: Field required"),
    ("[1]", "damaged"),
    ('{"compare": null}', "damaged (compare"),
    (changed(models="all"), "compare.models"),
    (changed(questions=float("nan")), "compare.questions"),
    (changed(rows={"handwritten": {"m": {"token_f1": float("inf")}}}), "compare.rows.handwritten.m.token_f1"),
    (changed(rows={"handwritten": {"m": {"token_f1": 0.5}}}), "'token_f1_low' is missing"),
    (changed(reason={"transformer_lora": "half a \ud800 character"}), "damaged"),
    ("[" * 100_000, "damaged"),
    (changed(best="x" * MAX_BYTES), "has more than 4 MiB and is not shown"),
]
DAMAGED_FILES = [
    ("metrics/rlhf.json", '{"rlhf": {"method": "dpo"}}'),
    ("plots/rlhf_arms.json", '[{"arm": "base"}]'),
    ("plots/rlhf_reward_kl.json", '[{"arm": "rlhf", "kl": NaN, "reward": 0.1, "step": 0}]'),
    ("plots/eval_grid_transformer_lora.json", "{"),
    ("plots/refusal_rl_trained_lora.json", '{"a": 1}'),
    ("plots/train/transformer_lora.json", '[{"step": "first"}]'),
    ("models/champion.json", '{"champion": 1}'),
    ("models/champion.json", "[" * 100_000),
]


def test_a_damaged_file_is_one_line_and_the_rest_is_shown(start: StartServer, run: Path) -> None:
    """One server sees all damages in turn: nothing is kept between two requests."""
    live = start(models=(), root=run)
    with live.client() as client:
        for content, said in DAMAGED_TABLES:
            with damaged(run / COMPARE, content):
                found = client.get("/v1/experiments").json()
            (note,) = found["notes"]
            assert note.startswith(COMPARE) and said in note and "\n" not in note
            assert note.endswith("`dvc repro -f compare` makes it anew")
            assert found["comparison"] is None and found["rlhf"]["method"] == "dpo"
        for name, content in DAMAGED_FILES:
            with damaged(run / name, content):
                found = client.get("/v1/experiments").json()
            (note,) = found["notes"]
            assert note.startswith(name) and "\n" not in note
            assert found["comparison"] is not None
        assert client.get("/v1/experiments").json()["notes"] == []


@contextlib.contextmanager
def damaged(path: Path, content: str) -> Iterator[None]:
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    path.write_text(content)
    yield
    if before is None:
        path.unlink()
    else:
        path.write_text(before, encoding="utf-8")


def test_a_folder_in_the_place_of_a_file_is_said(start: StartServer, run: Path) -> None:
    (run / COMPARE).unlink()
    (run / COMPARE).mkdir()
    (note,) = asked(start, run)["notes"]
    assert note == f"{COMPARE} cannot be read: Is a directory"


def test_broken_settings_leave_the_table(start: StartServer, run: Path) -> None:
    live = start(models=(), root=run)
    (run / "params.yaml").write_text("eval: 1\n")
    with live.client() as client:
        found = client.get("/v1/experiments").json()
    assert found["comparison"] is not None and found["entries"] == []
    assert len(found["notes"]) == 1 and "params.yaml" in found["notes"][0]


def test_the_run_is_behind_the_token(start: StartServer, run: Path) -> None:
    live = start(models=(), root=run, token=TOKEN)
    assert httpx.get(f"{live.url}/v1/experiments", trust_env=False).status_code == 401
    with live.client() as client:
        assert client.get("/v1/experiments").status_code == 200
