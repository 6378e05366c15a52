"""A rerun is compared with a commit: what is the same, and where the rest begins to differ."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

from mark.commands.verify import Verified, VerifyRequest, verify
from mark.errors import ConfigError, DataError, MarkError
from mark.reproduce.git import commit_of
from mark.reproduce.pipeline import Lock, LockedStage, Stage, lock_here, stages_at
from mark.reproduce.seeds import Spread
from mark.reproduce.store import Store, cache_of
from mark.reproduce.verification import (
    Finding,
    Original,
    compare_outputs,
    in_order,
    made_from,
    named,
    other_inputs,
)
from tests.reproduce.conftest import call, commit

EVAL = "metrics/eval_tiny_lora.json"


def run(root: Path, revision: str = "HEAD", **flags: object) -> Verified:
    """`mark verify` with one thread."""
    return verify(VerifyRequest(revision, **{"threads": 1, **flags}), root)  # type: ignore[arg-type]


def line(found: Verified, path: str) -> str:
    """What was said of one output: verdict, path and, below them, where it differs."""
    lines = found.text.splitlines()
    (at,) = [number for number, row in enumerate(lines) if row.startswith("  ") and row.endswith(f"  {path}")]
    detail = lines[at + 1] if lines[at + 1].startswith("      ") else ""
    return " ".join(f"{lines[at]} {detail}".split())


def test_a_rerun_gives_the_same_bytes_and_leaves_nothing_behind(tiny: Path) -> None:
    before = call(tiny, "git", "status", "--porcelain")
    found = run(tiny)
    assert found.reproduced
    assert found.text.splitlines()[-1] == "4 outputs: 4 identical"
    assert "Environment: " in found.text
    assert call(tiny, "git", "status", "--porcelain") == before
    assert list((tiny / "tmp").iterdir()) == []


def test_what_differs_is_found_and_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT", "1")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    found = run(tiny)
    assert not found.reproduced
    assert line(found, "data/chunks.jsonl") == (
        "different data/chunks.jsonl first at line 2 (chunk_id c1), key /text: "
        '"Clause 1." there, "Clause one." here'
    )
    # The first weight moves by 1; the largest is 4.
    assert line(found, "models/tiny_lora") == (
        "different models/tiny_lora first at adapter_model.safetensors, tensor q.lora_A, "
        "largest relative difference 2.5e-01"
    )
    assert line(found, "metrics/eval_tiny_lora.json") == (
        "different metrics/eval_tiny_lora.json first at key /eval_tiny_lora/token_f1: 0.37 there, 0.375 here"
    )
    assert line(found, "metrics/compare.json") == "identical metrics/compare.json"
    assert "The first difference in the pipeline's order is data/chunks.jsonl of stage ingest" in found.text
    assert "  MKL_CBWR: none there, COMPATIBLE here" in found.text


def compared(root: Path, metrics: str, spread: Spread | None = None) -> Finding:
    """What is said of the metrics of a rerun that wrote this file, and else the same."""
    rerun = Path(tempfile.mkdtemp(dir=root.parent)) / "rerun"
    shutil.copytree(root, rerun, symlinks=True)
    (rerun / EVAL).write_text(metrics)
    head = commit_of(root, "HEAD")
    original = Original(head, lock_here(root), Store(root, cache_of(root), root.parent / "work"), spread)
    found = compare_outputs(original, stages_at(root, head), rerun)
    assert [finding.path for finding in found if finding.verdict == "identical"] == [
        "data/chunks.jsonl", "models/tiny_lora", "metrics/compare.json",
    ]  # fmt: skip
    return next(finding for finding in found if finding.path == EVAL)


def test_a_metric_may_lie_within_what_seeds_move(tiny: Path) -> None:
    text = (tiny / EVAL).read_text()
    spread = Spread(commit="c", pipeline="p", seeds=[], values={})
    for seed, f1 in ((7, "0.37"), (8, "0.38")):
        spread = spread.with_run(seed, {EVAL: json.loads(text.replace("0.37", f1))})
    # A rerun moves token F1 by 0.005; two seeds lie 0.01 apart.
    found = compared(tiny, text.replace("0.37", "0.375"), spread)
    assert found.verdict == "within seed noise" and found.detail.startswith("1 moved, first key /eval_tiny")
    # By 0.5 it is no noise, nor is a verdict.
    found = compared(tiny, text.replace("0.37", "0.8700"), spread)
    assert found.verdict == "different" and found.detail.endswith(
        "beyond seed noise first at key /eval_tiny_lora/token_f1 (by 0.5, between 2 seeds up to 0.01)"
    )
    found = compared(tiny, text.replace("cannot tell", "ship 000"), spread)
    assert found.verdict == "different" and "its spread over seeds is not known" in found.detail
    found = compared(tiny, text.replace("0.37", "0.3750000"))
    assert found.verdict == "different" and "seed noise" not in found.detail


def test_one_stage_runs_on_the_inputs_of_the_commit(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT", "1")  # would change the first stage, which is not run
    found = run(tiny, stage="compare")
    assert found.reproduced and found.text.splitlines()[-1] == "1 outputs: 1 identical"
    with pytest.raises(DataError, match="no stage 'nope'; there are ingest, train, eval@tiny_lora, compare"):
        run(tiny, stage="nope")
    monkeypatch.delenv("PLANT")
    assert run(tiny, stage="ingest").reproduced  # reads a file that DVC tracks and no stage makes


def test_a_metric_that_was_changed_by_hand_is_told_apart(tiny: Path) -> None:
    rerun = (tiny / EVAL).read_text()
    (tiny / EVAL).write_text(rerun.replace("0.37", "0.47"))
    commit(tiny, "better")
    found = compared(tiny, rerun)
    assert found.verdict == "different" and "0.47 there, 0.37 here" in found.detail
    assert found.detail.endswith("not the one that dvc.lock names: changed by hand, or not by a run")


def test_a_hook_of_git_does_not_lead_the_rerun_to_the_project(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = call(tiny, "git", "symbolic-ref", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tiny / ".git"))  # as git sets it in the hooks of a worktree
    assert run(tiny, stage="train").reproduced
    assert call(tiny, "git", "symbolic-ref", "HEAD") == branch


def test_a_yes_to_paid_replies_is_no_other_setting() -> None:
    def lock(confirmed: bool, temperature: float) -> Lock:
        llm = {"confirmed": confirmed, "temperature": temperature}
        return {"data_prep": LockedStage({}, {}, {"data_prep": {"llm": llm}})}

    stages = [Stage("data_prep", (), (), ("data_prep",))]
    assert other_inputs(lock(True, 0.5), lock(False, 0.5), stages) == {}
    assert other_inputs(lock(True, 0.5), lock(False, 0.7), stages) == {"params.yaml": ["data_prep"]}


@pytest.mark.long
def test_an_earlier_commit_is_run_with_its_own_code(tiny: Path) -> None:
    first = commit_of(tiny, "HEAD")
    script = tiny / "make.py"
    script.write_text(script.read_text().replace("0.3 + seed", "0.4 + seed"))
    call(tiny, sys.executable, "-m", "dvc", "repro")
    commit(tiny, "another run")
    for revision in (first, "HEAD"):
        assert run(tiny, revision).reproduced
    call(
        tiny, "rm", "-r", ".dvc/cache/files"
    )  # nothing of the first run is left, and dvc.lock still says enough
    call(tiny, sys.executable, "-m", "dvc", "add", "-q", "data/source.pdf")
    assert run(tiny, first).reproduced


def test_a_lock_that_is_older_than_the_code_is_named(tiny: Path) -> None:
    for name, old, new in (("make.py", "[[2.0]]", "[[3.0]]"), ("params.yaml", "seed: 7", "seed: 8")):
        (tiny / name).write_text((tiny / name).read_text().replace(old, new))
    commit(tiny, "changed and not run")
    (tiny / "make.py").write_text("not committed")
    found = run(tiny, stage="train")
    assert "; your uncommitted changes are not part of it" in found.text
    assert "dvc.lock is older than its make.py: train ran with another" in found.text
    assert "dvc.lock is older than its params.yaml: train ran with another" in found.text
    assert "data/chunks.jsonl" not in found.text
    assert "tensor v.lora_A, largest relative difference 5.0e-01" in line(found, "models/tiny_lora")


def test_a_record_of_the_commit_does_not_pass_for_one_of_the_rerun(tiny: Path) -> None:
    script = tiny / "make.py"
    script.write_text(
        script.read_text().replace("run_stage(stage, {", "({").replace("[stage])", "[stage])()")
    )
    call(tiny, sys.executable, "-m", "dvc", "repro")  # writes no records, and the same outputs as before
    path = tiny / "reports/runs/train.json"
    path.write_text(path.read_text().replace(f'"{platform.python_version()}"', '"2.7.18"'))
    commit(tiny, "recorded on another machine")
    found = run(tiny, stage="train")
    assert found.reproduced
    assert f"  Python: 2.7.18 there, {platform.python_version()} here" in found.text


def test_without_a_record_of_that_run_the_pins_are_all_that_is_known(tiny: Path) -> None:
    path = tiny / "reports/runs/train.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"outs": {"models/tiny_lora": "0" * 32 + ".dir"}}))  # of another run
    (tiny / "requirements.lock").write_text("numpy==1.0\npytest==1.0\n")
    commit(tiny, "fewer records")
    (tiny / "requirements.lock").write_text("numpy==1.0\n")  # what is pinned now does not matter
    found = run(tiny, stage="train", keep=True)
    assert "Environment: the original's is not recorded for any stage\n" in found.text
    for name in ("numpy", "pytest"):
        assert f"  package {name}: 1.0 there, {version(name)} here" in found.text
    (kept,) = (tiny / "tmp").iterdir()
    assert f"The clone is kept: tmp/{kept.name}" in found.text and (kept / "dvc.yaml").is_file()


def test_what_the_remote_holds_is_checked_without_a_rerun(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no default DVC remote is set"):
        run(tiny, pull=True, threads=None)
    # A place relative to the project's own .dvc: a clone lies elsewhere.
    call(tiny, sys.executable, "-m", "dvc", "remote", "add", "-q", "-d", "store", "../store")
    call(tiny, sys.executable, "-m", "dvc", "push", "-q")
    found = run(tiny, pull=True, threads=None)
    assert found.reproduced and found.text.splitlines()[-1] == "4 outputs: 4 identical"
    assert "its outputs pulled" in found.text
    first = commit(tiny, "where the remote is")
    (tiny / EVAL).write_text((tiny / EVAL).read_text().replace("0.37", "0.47"))
    commit(tiny, "better")
    found = run(tiny, pull=True, threads=None)  # the file is in git alone: dvc.lock is the judge
    assert not found.reproduced and found.text.splitlines()[-1] == "4 outputs: 3 identical, 1 different"
    assert line(found, EVAL).endswith("not the one that dvc.lock names: changed by hand, or not by a run")
    call(tiny, "git", "reset", "-q", "--hard", first)
    (chunks,) = [
        p for p in (tmp_path / "store").rglob("*") if p.is_file() and b'"chunk_id"' in p.read_bytes()
    ]
    chunks.chmod(0o644)
    chunks.write_bytes(chunks.read_bytes().replace(b"Clause 1.", b"Clause 9."))
    found = run(tiny, pull=True, threads=None)
    told = line(found, "data/chunks.jsonl")
    assert told == "missing data/chunks.jsonl the remote has none with the hash of dvc.lock"
    assert not found.reproduced and found.text.splitlines()[-1] == "4 outputs: 3 identical, 1 missing"


def test_a_remote_that_cannot_be_read_is_no_missing_output(tiny: Path) -> None:
    # What reads Google's storage is not installed.
    call(tiny, sys.executable, "-m", "dvc", "remote", "add", "-q", "-d", "store", "gs://nobody/here")
    with pytest.raises(MarkError, match=r"^the DVC remote store cannot be read: .*dvc-gs.*$"):
        run(tiny, pull=True, threads=None)
    assert list((tiny / "tmp").iterdir()) == []


def test_inputs_that_are_nowhere_are_named(tiny: Path) -> None:
    call(tiny, "rm", "-r", ".dvc/cache/files")
    with pytest.raises(DataError, match=r"not all of data/source\.pdf\.dvc is in DVC's cache here"):
        run(tiny)
    assert list((tiny / "tmp").iterdir()) == []


def test_flags_that_contradict_each_other(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="--pull runs no stage"):
        run(tiny, pull=True, stage="train")


def test_stages_come_in_the_order_in_which_they_read_each_other(tiny: Path) -> None:
    stages = list(reversed(stages_at(tiny, commit_of(tiny, "HEAD"))))
    assert [stage.name for stage in in_order(stages)] == ["ingest", "train", "eval@tiny_lora", "compare"]
    assert [stage.name for stage in named(stages, "eval")] == ["eval@tiny_lora"]
    assert list(made_from(stages, "compare")) == ["metrics/eval_tiny_lora.json"]
    folder = Stage("last", deps=("models",), outs=(), params=())
    assert list(made_from([folder, *stages], "last")) == ["models/tiny_lora"]
