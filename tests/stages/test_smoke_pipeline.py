"""The real stages through `dvc repro` on experiment=smoke: a tiny random model and three small PDFs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mark.reproduce.environment import record_here
from mark.reproduce.pipeline import lock_here, stages_at, stages_of
from mark.reproduce.store import Store, cache_of
from mark.reproduce.verification import Original, compare_outputs
from tests.conftest import ROOT
from tests.faults.killing import Killing
from tests.faults.smoke_copy import SmokeCopy
from tests.stages.running import (
    call,
    clone,
    committed_copy,
    dvc,
    environment,
    fails,
    git,
    mark,
    stages_run,
)


def test_every_stage_wrote_its_outputs(project: Path) -> None:
    metrics = json.loads((project / "metrics/eval_random_lora.json").read_text())
    assert list(metrics) == ["eval_random_lora"]
    for name in ("random_lora", "rl_trained_lora", "sft_continued_lora"):
        assert json.loads((project / f"models/{name}/entry.json").read_text())["random"] is True
    compared = json.loads((project / "metrics/compare.json").read_text())["compare"]
    assert compared["verdict"] == {"random_lora": "cannot tell", "rl_trained_lora": "cannot tell"}
    assert compared["best"] == "none" and set(compared["models"]) > {
        "random_lora",
        "rl_trained_lora + retrieval",
    }
    assert (project / "chroma_db/chroma.sqlite3").is_file()
    ledger = json.loads((project / "data/ledger.json").read_text())
    assert ledger["splits"]["train"]["examples"] > 0 and ledger["questions"]["asked"] > 0


def test_times_and_machines_stand_in_reports_alone(project: Path) -> None:
    timing = json.loads((project / "reports/timing_eval_random_lora.json").read_text())
    assert set(timing["seconds_per_answer"]) >= {"base with passages", "tuned with passages"}
    lock = (project / "dvc.lock").read_text()
    assert "reports/timing" not in lock
    outs = [*project.glob("metrics/*.json"), *project.glob("models/random_lora/*.json"),
            *project.glob("reports/eval/random_lora/*.json"), *project.glob("data/*.json")]  # fmt: skip
    assert len(outs) > 5
    for path in outs:
        text = path.read_text()
        assert not any(f'"{key}' in text for key in ("seconds", "peak_memory", "hostname", "cores"))
        assert str(project) not in text


def test_the_stages_ran_with_the_network_refused(project: Path) -> None:
    # All of the above did; this shows that the refusal is in force.
    for call_out in (
        "socket.create_connection(('192.0.2.1', 80), 1)",
        "socket.getaddrinfo('example.org', 80)",
    ):
        done = subprocess.run(
            [sys.executable, "-c", f"import socket; {call_out}"], cwd=project, env=environment(project),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0 and "network refused by the test" in done.stderr


def test_second_run_runs_no_stage(project: Path) -> None:
    output = dvc(project, "repro")
    assert "Running stage" not in output
    assert output.count("didn't change, skipping") >= 10


def test_each_stage_recorded_what_it_computed_on(project: Path) -> None:
    lock = lock_here(project)
    for stage in stages_of((project / "dvc.yaml").read_text(), (project / "params.yaml").read_text()):
        record = record_here(project, stage.name)
        assert record is not None and record.outs == lock[stage.name].outs, stage.name
        assert record.environment.threads >= 1 and record.environment.packages["numpy"]
    trained = record_here(project, "train")
    assert trained is not None and trained.environment.torch_cpu is not None


def test_a_stage_of_a_commit_gives_the_same_bytes_again(committed: Path) -> None:
    output = mark(committed, "verify", "--stage", "train")
    assert "Environment: as recorded" in output and output.splitlines()[-1] == "2 outputs: 2 identical"
    assert call(committed, "git", "status", "--porcelain") == "" and not list((committed / "tmp").iterdir())


def test_a_planted_difference_is_found_and_named(committed: Path, tmp_path: Path) -> None:
    rerun = Path(shutil.copytree(committed, tmp_path / "rerun", symlinks=True))
    chunks = rerun / "data/chunks.jsonl"
    rows = [json.loads(row) for row in chunks.read_text().splitlines()]
    rows[2]["text"] = "Planted."
    adapter = rerun / "models/random_lora/adapter_model.safetensors"
    weights = load_file(adapter)
    name = sorted(weights)[3]
    weights[name] = weights[name] + weights[name].abs().max() / 4  # a quarter of the largest
    metrics = rerun / "metrics/eval_random_lora.json"
    found = json.loads(metrics.read_text())
    found["eval_random_lora"]["counts"]["validation"] += 1
    for path, text in (
        (chunks, "".join(f"{json.dumps(row)}\n" for row in rows)),
        (metrics, json.dumps(found)),
    ):
        path.unlink()  # it may be a link into the cache
        path.write_text(text)
    adapter.unlink()
    save_file(weights, adapter)

    head = call(committed, "git", "rev-parse", "HEAD").strip()
    original = Original(head, lock_here(committed), Store(committed, cache_of(committed), tmp_path / "work"))
    told = {f.path: f for f in compare_outputs(original, stages_at(committed, head), rerun)}
    assert len(told) > 30
    changed = {path: finding.detail for path, finding in told.items() if finding.verdict != "identical"}
    assert set(changed) == {"data/chunks.jsonl", "models/random_lora", "metrics/eval_random_lora.json"}
    assert f"line 1 (chunk_id {rows[0]['chunk_id']})" in changed["data/chunks.jsonl"] or (
        f"line 3 (chunk_id {rows[2]['chunk_id']}), key /text" in changed["data/chunks.jsonl"]
    )
    wanted = f"first at adapter_model.safetensors, tensor {name}, largest relative difference 2.5e-01"
    assert changed["models/random_lora"] == wanted
    assert "first at key /eval_random_lora/counts/validation: " in changed["metrics/eval_random_lora.json"]


def test_an_entry_is_followed_back_and_a_document_forward(committed: Path) -> None:
    output = mark(committed, "lineage", "random_lora")
    trained = [json.loads(row) for row in (committed / "data/train_sft.jsonl").read_text().splitlines()]
    asked = sum(row["document"] == "lease" for row in trained)
    assert "made by    stage train; its dvc.lock came with commit" in output and "not known" not in output
    assert f"in training; {asked} training questions about it" in output
    output = mark(committed, "lineage", "--document", "lease.pdf")
    for name in ("random_lora", "rl_trained_lora", "sft_continued_lora"):
        assert (
            f"  {name:18}  in training; " in output and f"  {name:18}  `dvc repro` trains it anew" in output
        )


def test_a_clone_pulls_runs_nothing_and_answers(smoke: Path, tmp_path: Path) -> None:
    """docs/share.md, with a folder as remote."""
    author = committed_copy(smoke, tmp_path / "author", "team", str(tmp_path / "storage"))
    assert "files pushed" in dvc(author, "push")
    colleague = clone(author, tmp_path / "colleague")
    assert not (colleague / "chroma_db").exists() and not (colleague / "data/raw").exists()
    dvc(colleague, "pull")
    output = dvc(colleague, "repro")
    assert stages_run(output) == [] and output.count("didn't change, skipping") >= 10
    answered = mark(colleague, "ask", "How high is the rent?")
    assert (
        f"building the Chroma collection pdf_docs in {colleague}/chroma_db" in answered
    )  # it is no out of DVC
    assert (colleague / "chroma_db/chroma.sqlite3").is_file() and "rl_trained_lora, the first of" in answered
    assert git(colleague, "status", "--porcelain") == ""


def test_ci_finds_a_stale_lock_without_the_data(smoke: Path, tmp_path: Path) -> None:
    """The recipe for CI in docs/share.md, as it stands there."""
    page = (ROOT / "docs/share.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S)
    author = committed_copy(smoke, tmp_path / "author", "team", str(tmp_path / "storage"))
    dvc(author, "push", "-q", "--recursive", "data/pdfs")
    fresh = clone(author, tmp_path / "fresh")
    assert "dvc.lock is up to date" in call(fresh, "bash", "-c", recipe)
    assert not (fresh / "models/random_lora").exists()  # nothing of it was fetched

    def fails(change: Callable[[Path], object], message: str) -> None:
        change(fresh)
        done = subprocess.run(["bash", "-c", recipe], cwd=fresh, env=environment(fresh), text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        assert done.returncode != 0 and message in done.stdout, done.stdout
        git(fresh, "checkout", "-q", ".")

    fails(lambda at: mark(at, "params", "experiment=smoke", "train.learning_rate=4e-4"), "dvc.lock is stale")
    fails(lambda at: edit(at / "mark/train/loss.py", "\n", "\n\n"), "dvc.lock is stale")
    fails(lambda at: edit(at / "params.yaml", "weight_decay: 0.0", "weight_decay: 0.1"), "differs from conf/")


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


def test_a_killed_stage_is_run_again_as_if_nothing_had_been(smoke: Path, tmp_path: Path) -> None:
    """One of the kills of tests/faults, at a write; the long tests make two hundred."""
    kill = Killing(SmokeCopy.below(smoke, tmp_path)).kill("corpus", 3)
    assert kill.faults == [], kill.line
    assert kill.how.startswith("write ")


def test_damaged_outs_are_made_good_by_a_run(project: Path) -> None:
    dvc(project, "repro")
    names = (
        "data/chunks.jsonl",
        "models/random_lora/adapter_model.safetensors",
        "models/embedder/model.safetensors",
    )
    before = {name: (project / name).read_bytes() for name in names}
    for name, content in before.items():
        (project / name).unlink()  # DVC may have linked it to its cache
        (project / name).write_bytes(content[: len(content) // 2])
    said = fails(
        project,
        sys.executable,
        "-m",
        "mark",
        "eval",
        "--model",
        "random_lora",
        "--dataset",
        "data/val_sft.jsonl",
    )
    assert "Traceback" not in said and "mark: " in said.splitlines()[-1]
    dvc(project, "repro")
    assert {name: (project / name).read_bytes() for name in names} == before


def test_a_second_run_at_the_same_time_is_refused_in_a_line(project: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "compare"], cwd=project, text=True,
        env=environment(project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert first.stdout is not None
    shown = ""
    while "Running stage" not in shown:
        line = first.stdout.readline()
        assert line, shown
        shown += line
    second = fails(project, sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "compare")
    assert "is busy, it is being blocked by:" in second and f"(PID {first.pid}): " in second
    assert "Traceback" not in second and "Running stage" not in second
    rest = first.stdout.read()
    assert first.wait() == 0, shown + rest
    assert "Running stage" not in dvc(project, "repro")


def test_report_prints_the_table(project: Path) -> None:
    output = mark(project, "report")
    for label in (
        "random + retrieval",
        "random_lora + retrieval",
        "rl_trained_lora + retrieval",
        "best sentence",
    ):
        assert sum(line.strip().startswith(label) for line in output.splitlines()) >= 1, label
    assert "  random_lora: cannot tell; " in output and "  rl_trained_lora: cannot tell; " in output
    table, _, seed = output.strip().rpartition("\n")
    assert table == (project / "reports/compare/table.txt").read_text().strip()
    assert seed.startswith("Seed of every gain: 7. How far another seed moves it was not measured")
    full = mark(project, "report", "--full")
    assert "Verdict on random_lora + retrieval: cannot tell" in full and "RLHF by grpo" in full


def test_plots_are_drawn_without_the_network(project: Path) -> None:
    assert "draws without the network" in mark(project, "plots")
    page = (project / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert "<script src=" not in page and page.count("vegaEmbed('#plots_") == 9
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium: `apt-get install chromium` shows whether the page draws")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom",
         (project / "dvc_plots/index.html").as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.count('class="marks"') == page.count("vegaEmbed('#plots_")


def test_dvc_itself_draws_without_the_network_once_set_up(project: Path) -> None:
    mark(project, "plots", "--setup")
    dvc(project, "plots", "show", "--out", "shown")
    page = (project / "shown/index.html").read_text(encoding="utf-8")
    assert "<script src=" not in page and page.count("vegaEmbed('#plots_") == 9


def test_a_training_of_ones_own_and_its_evaluation(project: Path) -> None:
    pipeline = (project / "dvc.yaml").read_bytes()
    (project / "quick.yaml").write_text("max_steps: 2\nreport_to: [dvclive]\n")
    planned = mark(project, "train", "--config", "quick.yaml")
    assert not (project / "models/random_lora_quick").exists() and "--confirm-run" in planned
    mark(project, "train", "--config", "quick.yaml", "--confirm-run")
    entry = json.loads((project / "models/random_lora_quick/entry.json").read_text())
    assert entry["steps"] == 2
    assert list((project / "logs/lora_training/dvclive").rglob("*.tsv"))
    assert (project / "dvc.yaml").read_bytes() == pipeline
    output = mark(project, "eval", "--model", "random_lora_quick", "--dataset", "data/val_sft.jsonl")
    (written,) = (project / "reports").glob("eval_random_lora_quick_*.json")
    report = json.loads(written.read_text())
    assert report["questions"] == len((project / "data/val_sft.jsonl").read_text().splitlines())
    assert 0 <= report["metrics"]["token_f1"] <= 1 and str(written.name) in output
    assert "Running stage" not in dvc(project, "repro")


def test_from_a_collection_to_a_measured_model_outside_the_pipeline(project: Path) -> None:
    mark(
        project,
        "data-prep",
        "--collection",
        "pdf_docs",
        "--out-dir",
        "out",
        "--top-k",
        "2",
        "--max-samples",
        "6",
    )
    rows = [json.loads(line) for line in (project / "out/train_sft.jsonl").read_text().splitlines()]
    assert 0 < len(rows) <= 6 and all(len(row["contexts"]) <= 2 for row in rows)
    (project / "once.yaml").write_text("max_steps: 1\n")
    mark(project, "train", "--data", "out", "--config", "once.yaml", "--confirm-run")
    assert json.loads((project / "models/random_lora_once/entry.json").read_text())["examples"] == len(rows)
    output = mark(project, "eval", "--model", "random_lora_once", "--dataset", "out/train_sft.jsonl")
    assert f"{len(rows)} questions" in output


def test_a_collection_of_ones_own_goes_through_the_pipeline(project: Path) -> None:
    import chromadb

    chroma = project.parent / "mine"
    client = chromadb.PersistentClient(str(chroma))
    own = client.create_collection("contracts", embedding_function=None)
    texts = [
        f"Article {n}. The keeper of store {n} shall lock its gate within {n + 1} hours after the last delivery. "
        f"The owner may open store {n} for inspection on Mondays."
        for n in range(1, 13)
    ]
    own.add(
        ids=[f"row-{n}" for n in range(12)], documents=texts, embeddings=[[float(n), 1.0] for n in range(12)]
    )
    client.close()
    mark(project, "snapshot", "--collection", "contracts", "--chroma", str(chroma))
    mark(project, "params", "experiment=smoke", "ingest=collection")
    dvc(project, "repro", "data_prep")
    chunks = (project / "data/chunks.jsonl").read_text()
    assert "store 12 shall lock" in chunks.replace("\\n", " ") and "lease" not in chunks.lower()
    rows = [json.loads(line) for line in (project / "data/train_sft.jsonl").read_text().splitlines()]
    assert rows
    again = chromadb.PersistentClient(str(chroma)).get_collection("contracts", embedding_function=None)
    assert again.count() == 12 and sorted(again.get()["documents"]) == sorted(texts)
    call(project, "git", "checkout", "--", "params.yaml")
    mark(project, "params", "experiment=smoke")
    dvc(project, "repro")


@pytest.mark.long
def test_a_queued_sweep_and_its_traps(project: Path) -> None:
    """What docs/sweep.md says of queues, in one queue: a whole run, two trainings, two that fail."""
    before = (project / "data/pdfs/lease.pdf").read_bytes()
    git(project, "add", "-A")
    git(project, "commit", "-qm", "smoke")
    smoke = ("-S", "experiment=smoke")
    dvc(project, "exp", "run", "--queue", "-n", "queued", *smoke, "-S", "ingest.chunk_tokens=180")
    edit(
        project / "params.yaml", "weight_decay: 0.0", "weight_decay: 0.3"
    )  # by hand, so lost to every experiment
    (project / "conf/train/mine.yaml").write_text("defaults: [smoke, _self_]\nbatch_size: 1\n")
    grid = ("-S", "train=mine", "-S", "train.lora.r=2,3", "-S", "train.lora.target_modules=auto,[nosuch]")
    dvc(project, "exp", "run", "--queue", "-n", "rank", *smoke, *grid, "train")
    edit(project / "conf/train/mine.yaml", "batch_size: 1", "batch_size: 4")  # too late: composed when queued
    dvc(project, "exp", "run", "--run-all")  # ends with 0, see `call`

    table = {line.split()[0]: line for line in mark(project, "experiments").splitlines() if line}
    assert "success  ingest.chunk_tokens=180 " in table["queued"] and table["queued"].rstrip().endswith(")")
    assert {name for name in table if name.startswith("rank-")} == {"rank-1", "rank-2", "rank-3", "rank-4"}
    failed = {name for name, line in table.items() if line.split()[1] == "failed"}
    assert len(failed) == 2 and all("target_modules=['nosuch']" in table[name] for name in failed)
    assert table["Failed:"].startswith("Failed: rank-") and "`dvc queue logs NAME`" in table["Failed:"]
    trained = {name for name in table if name.startswith("rank-")} - failed
    for name in trained:
        assert "train.batch_size=1" in table[name] and "weight_decay" not in table[name]
        assert table[name].rstrip().endswith("  -")  # evaluated by nobody; its commit's F1 is not its own
        assert (
            git(project, "ls-tree", "-r", "--name-only", revision(project, name), "conf/train/mine.yaml")
            == ""
        )
    assert revision(project, "queued") != revision(project, sorted(trained)[0])
    assert (project / "data/pdfs/lease.pdf").read_bytes() == before

    few = ("exp", "show", "--hide-workspace", "--only-changed", "--csv")
    shown = dvc(project, *few, "--drop", "eval_|rlhf|compare|Created").splitlines()
    assert shown[0] == "Experiment,rev,typ,State,Executor,ingest.chunk_tokens,train.batch_size,train.lora.r," \
        "train.lora.target_modules"  # fmt: skip
    page = draw(project, "queued", "HEAD")
    assert page.count("vegaEmbed('#plots_") == 9 and "<script src=" not in page
    git(project, "checkout", "-q", "params.yaml")
    (project / "conf/train/mine.yaml").unlink()


def revision(project: Path, experiment: str) -> str:
    """The commit of an experiment."""
    return git(project, "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{experiment}").strip()


def draw(project: Path, *revisions: str) -> str:
    """The page of `mark plots`."""
    mark(project, "plots", *revisions, "--out", "laid_over")
    return (project / "laid_over/index.html").read_text(encoding="utf-8")


def test_user_pdf_survives_change_of_corpus(project: Path) -> None:
    before = (project / "data/pdfs/lease.pdf").read_bytes()
    mark(project, "params", "experiment=smoke", "corpus.documents=[lease,policy]")
    dvc(project, "repro", "corpus")
    assert sorted(p.name for p in (project / "data/raw").glob("*.pdf")) == ["lease.pdf", "policy.pdf"]
    assert (project / "data/pdfs/lease.pdf").read_bytes() == before
    output = mark(project, "remove", "lease.pdf")
    assert "what they taught stays in:\n" in output and "\n  random_lora: " in output
    assert not (project / "data/pdfs/lease.pdf").exists()
    assert (project / "data/pdfs/statute.pdf").exists()


def test_guarded_config_fails_and_former_outs_come_back(project: Path) -> None:
    adapter = project / "models/random_lora/adapter_model.safetensors"
    mark(project, "params", "experiment=smoke")
    dvc(project, "checkout", "models/random_lora")
    before = adapter.read_bytes()
    mark(project, "params", "experiment=smoke", "train=lora_sft")
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "-s", "train"], cwd=project, env=environment(project),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "dry_run" in done.stdout + done.stderr
    mark(project, "params", "experiment=smoke")
    dvc(project, "checkout", "models/random_lora")
    assert adapter.read_bytes() == before
