"""What an adapter saw is counted from the data whose hash its entry.json records, wherever that data still is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from mark.commands.lineage import run_lineage
from mark.commands.takedown import kept_lines
from mark.config import Paths
from mark.errors import ConfigError, DataError, ModelError
from mark.files import write_json, write_jsonl
from mark.pipeline.answer import new_response_id
from mark.pipeline.journal import JOURNAL, JournalEntry
from mark.records import Chunk, Example
from mark.reproduce.exposure import Exposure, document_named, exposures, present_chunks
from mark.reproduce.pipeline import dvc_hash
from mark.reproduce.store import Store, cache_of
from mark.train.inputs import TrainInputs
from tests.conftest import ROOT
from tests.reproduce.conftest import call, commit

LEARNT = ("train_sft.jsonl", "val_sft.jsonl", "chunks.jsonl", "practice_passages.jsonl")


def chunk(name: str, document: str) -> Chunk:
    """A passage."""
    return Chunk(
        chunk_id=name, doc_id=f"{document}-0123456789abcdef", document=document, title=document, heading_path=[],
        section="", pages=[1], start=0, end=1, text=name,
    )  # fmt: skip


def example(number: int, contexts: list[str], document: str | None, split: str = "train") -> Example:
    """A question."""
    return Example.model_validate(
        {"example_id": str(number), "split": split, "question": "?", "contexts": contexts, "answers": ["a"],
         "quote": None, "page": None, "kind": "answerable", "style": "short", "rule_id": "r", "document": document,
         "section": None, "source_chunk": contexts[0] if document else None}
    )  # fmt: skip


def write_data(root: Path, without: str = "") -> None:
    """data/: two training questions on the lease, one of which shows the statute; one validation question on the
    policy; the rules are only in the index; a practice question brings a passage of gdpr.
    """
    data = root / "data"
    data.mkdir(exist_ok=True)
    chunks = [
        chunk("l1", "lease"),
        chunk("l2", "lease"),
        chunk("s1", "statute"),
        chunk("p1", "policy"),
        chunk("r1", "rules"),
    ]
    rows = [example(1, ["l1", "s1"], "lease"), example(2, ["l2"], "lease"), example(3, ["g1"], "gdpr")]
    kept = [c for c in chunks if c.document != without]
    write_jsonl(data / "chunks.jsonl", kept)
    write_jsonl(data / "practice_passages.jsonl", [chunk("g1", "gdpr")])
    write_jsonl(data / "train_sft.jsonl", [row for row in rows if row.document != without])
    write_jsonl(data / "val_sft.jsonl", [example(4, ["p1"], "policy", "val")])


def write_entry(root: Path, name: str, **facts: object) -> None:
    """An adapter that was trained on data/ as it is."""
    folder = root / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(f"weights of {name}".encode())
    here = TrainInputs.of_project("", Paths(checkpoints="", logs=""), root)
    record = {"name": name, "base": "tiny", "base_sha256": "b", "seed": 7, "data_sha256": here.data_sha256()}
    write_json(folder / "entry.json", record | facts)


def write_lock(root: Path) -> None:
    """dvc.lock and DVC's cache, as a run leaves them."""

    def rows(*paths: str) -> list[dict[str, str]]:
        return [{"path": path, "hash": "md5", "md5": keep(root / path)} for path in paths]

    def keep(path: Path) -> str:
        md5 = dvc_hash(path)
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            cached = cache_of(root) / dvc_hash(file)[:2] / dvc_hash(file)[2:]
            cached.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, cached)
        return md5

    data = [f"data/{name}" for name in LEARNT]
    stages = {
        "data_prep": {"cmd": "x", "outs": rows(*data)},
        "train": {"cmd": "x", "deps": rows(*data), "outs": rows("models/tiny_lora")},
        "rlhf": {
            "cmd": "x", "deps": rows(*data, "data/feedback_accepted.jsonl", "models/tiny_lora"),
            "outs": rows("models/rl_trained_lora"),
        },
    }  # fmt: skip
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed project in which two entries were made; `outside_lora` was trained by a command."""
    root = tmp_path_factory.mktemp("exposure") / "project"
    root.mkdir()
    call(root, "git", "init", "-q")
    call(root, "dvc", "init", "-q")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, root)
    (root / ".gitignore").write_text(
        "/models/\n/data/*_sft.jsonl\n/data/chunks.jsonl\n/data/practice_passages.jsonl\n"
    )
    write_data(root)
    feedback = {"id": "f1", "question": "?", "contexts": ["r1"], "answer": "a", "thumb": "up", "edited": None,
                "model": "tiny_lora", "adapter_sha256": None, "schema_version": 1}  # fmt: skip
    (root / "data/feedback_accepted.jsonl").write_text(json.dumps(feedback) + "\n")
    practice = {"id": "practice-1", "question": "?", "answer": "a", "kind": "answerable", "style": "short",
                "document": "gdpr", "section": "s", "quote": "a", "title": "t", "heading_path": [], "passage": "a"}  # fmt: skip
    (root / "data/practice.jsonl").write_text(json.dumps(practice) + "\n")
    write_entry(root, "tiny_lora")
    write_entry(root, "rl_trained_lora", sft="tiny_lora", data_sha256="of more files")
    write_lock(root)
    write_entry(root, "outside_lora")
    commit(root, "a run")
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A copy of it to work in."""
    return Path(shutil.copytree(template, tmp_path / "project"))


def seen(root: Path, document: str, indexed: bool = True) -> dict[str, str]:
    """Label -> how it saw a document."""
    return {e.entry.label: e.seen(document, indexed) for e in found(root)}


def found(root: Path) -> list[Exposure]:
    """Of all adapters."""
    return exposures(root, Store(root, cache_of(root), root / "tmp"))


def test_each_way_of_seeing_a_document(project: Path) -> None:
    assert set(seen(project, "lease").values()) == {"in training"}
    assert set(seen(project, "statute").values()) == {"in training"}  # shown beside a passage of the lease
    assert set(seen(project, "gdpr", indexed=False).values()) == {"in training"}
    assert set(seen(project, "policy").values()) == {"in validation only"}
    assert seen(project, "rules") == {
        "outside_lora": "through retrieval only",
        "rl_trained_lora": "in training",  # a judgement of an answer from it was accepted
        "tiny_lora": "through retrieval only",
    }
    assert set(seen(project, "never", indexed=False).values()) == {"not at all"}
    (own,) = [e for e in found(project) if e.entry.label == "tiny_lora"]
    use = own.of("lease")
    assert (use.asked, use.shown, use.validated, use.passages) == (2, 2, 0, 2)
    assert (own.of("statute").asked, own.of("statute").shown) == (0, 1)
    assert (own.of("policy").shown, own.of("policy").validated) == (0, 1)
    assert own.origin is not None and own.origin.stage == "train" and own.origin.commit is not None


def test_an_entry_is_followed_to_the_data_of_its_own_time(project: Path) -> None:
    shutil.copytree(project / "models/tiny_lora", project / "models/champion")
    (project / "models/champion/predictions.jsonl").write_text("kept beside it\n")
    write_data(project, without="lease")
    write_entry(project, "tiny_lora", note="trained again")
    write_entry(project, "rl_trained_lora", sft="tiny_lora")
    write_lock(project)
    for committed in (False, True):
        if committed:
            commit(project, "without the lease")
        assert seen(project, "lease", indexed=False) == {
            "champion": "in training",
            "outside_lora": "in training",  # by the hash of its data, which the cache still holds
            "rl_trained_lora": "not at all",
            "tiny_lora": "not at all",
        }, committed
    text = run_lineage(None, "lease.pdf", project)
    assert "lease: not in the index; ids lease-012345" in text and "Stale now:" in text
    assert "rm -r models/champions/" in text and "`mark models remove outside_lora --confirm`" in text


def test_what_lies_elsewhere_is_named_before_and_after_the_removal(project: Path) -> None:
    adapter = next(e.entry.adapter_sha256 for e in found(project) if e.entry.label == "tiny_lora")
    write_json(
        project / "exports/tiny/export.json", {"entry": "tiny_lora", "adapter_sha256": adapter, "dtype": "x"}
    )
    write_answer(project, adapter)
    for without in ("", "lease"):
        write_data(project, without)
        text = run_lineage(None, "lease", project)
        assert "  exports/tiny: an export of tiny_lora, which saw it\n" in text
        assert "  feedback/answers.jsonl: 1 answer from it\n" in text and "feedback_accepted" not in text
        assert "feedback/answers.jsonl: 1 answer from it" in kept_lines(["lease"], project)
    assert "  data/feedback_accepted.jsonl: 1 judgement of answers from it\n" in run_lineage(
        None, "rules", project
    )
    practice = "data/practice.jsonl: 1 question on it with a passage; take these rows out too"
    assert practice in run_lineage(None, "gdpr", project) and practice in kept_lines(["gdpr.pdf"], project)


def test_rlhf_saw_what_its_start_saw(project: Path) -> None:
    write_data(
        project, without="lease"
    )  # the stage ran alone, on newer data than the entry that it started from
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    write_lock(project)
    newer = yaml.safe_load((project / "dvc.lock").read_text())
    newer["stages"]["train"] = lock["stages"]["train"]
    (project / "dvc.lock").write_text(yaml.safe_dump(newer))
    assert seen(project, "lease", indexed=False)["rl_trained_lora"] == "in training"
    newer["stages"]["rlhf"]["deps"][-1]["md5"] = "0" * 32 + ".dir"
    (project / "dvc.lock").write_text(yaml.safe_dump(newer))
    (rlhf,) = [e for e in found(project) if e.entry.label == "rl_trained_lora"]
    assert rlhf.seen("rules", True) == "unknown" and "no dvc.lock names the models/tiny_lora" in rlhf.why


def test_data_that_is_gone_is_not_taken_for_unseen(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache/files")
    write_data(project, without="lease")
    assert set(seen(project, "lease").values()) == {"unknown"}
    lines = kept_lines(["lease.pdf"], project)
    assert len(lines) == 3 and all("not known" in line for line in lines)


def test_data_that_was_changed_by_hand_is_not_believed(project: Path) -> None:
    facts = json.loads((project / "models/tiny_lora/entry.json").read_text())
    write_json(project / "models/tiny_lora/entry.json", facts | {"data_sha256": "0" * 64})
    write_lock(project)
    (own,) = [e for e in found(project) if e.entry.label == "tiny_lora"]
    assert own.seen("lease", True) == "unknown" and "changed by hand" in own.why


def test_examples_of_ones_own_making_are_found(project: Path) -> None:
    own = project / "out"
    shutil.copytree(project / "data", own)
    (own / "chunks.jsonl").rename(own / "passages.jsonl")
    write_jsonl(own / "train_sft.jsonl", [example(9, ["r1"], "rules")])
    here = TrainInputs.of_project("", Paths(checkpoints="", logs=""), project).on(own)
    write_entry(project, "own_lora", data_sha256=here.data_sha256())
    assert seen(project, "rules")["own_lora"] == "in training"
    assert seen(project, "lease")["own_lora"] == "through retrieval only"


def test_a_document_has_a_name_a_file_name_and_an_id(project: Path) -> None:
    all_of, chunks = found(project), present_chunks(project)
    for name in (
        "lease",
        "lease.pdf",
        "lease.PDF",
        "data/pdfs/lease.pdf",
        "lease-01",
        "lease-0123456789abcdef",
    ):
        assert document_named(name, all_of, chunks) == "lease"
    with pytest.raises(DataError, match=r"no document 'leese'.*known: gdpr, lease, policy, rules, statute"):
        document_named("leese", all_of, chunks)


def write_answer(root: Path, adapter_sha256: str) -> JournalEntry:
    """The journal, with one answer from the lease and from a passage that is gone."""
    row = JournalEntry(
        response_id=new_response_id(), time="2026-01-01T00:00:00+00:00", question="Who?", contexts=["l1", "gone"],
        answer="a", refused=False, model="tiny_lora", adapter_sha256=adapter_sha256,
    )  # fmt: skip
    (root / JOURNAL).parent.mkdir(exist_ok=True)
    (root / JOURNAL).write_text(row.model_dump_json() + "\n")
    return row


def test_an_answer_is_followed_to_passages_and_adapter(project: Path) -> None:
    adapter = found(project)[-1].entry
    row = write_answer(project, adapter.adapter_sha256)
    text = run_lineage(row.response_id, None, project)
    assert text == run_lineage("last", None, project)
    assert "l1: lease (id lease-012345), page 1" in text and "gone: not in the index any more" in text
    assert f"tiny_lora: adapter {adapter.adapter_sha256}" in text and "stage train" in text
    other = {"adapter_sha256": "f" * 64, "question": "Who?\x1b]0;x\x07"}  # what a stranger asked over HTTP
    (project / JOURNAL).write_text(row.model_copy(update=other).model_dump_json() + "\n")
    assert "\x1b" not in run_lineage("last", None, project)
    assert "an adapter that is here no more" in run_lineage("last", None, project)


def test_wrong_use_names_what_there_is(project: Path) -> None:
    with pytest.raises(ConfigError, match="give --document NAME"):
        run_lineage(None, None, project)
    with pytest.raises(
        ModelError, match="no entry or answer 'nope'; there are: outside_lora, rl_trained_lora, tiny_lora"
    ):
        run_lineage("nope", None, project)
    with pytest.raises(DataError, match=r"no answer ans-0{24} in feedback/answers\.jsonl"):
        run_lineage("ans-" + "0" * 24, None, project)
    (project / "models/base/tiny").mkdir(parents=True)
    with pytest.raises(ModelError, match="tiny is a base model"):
        run_lineage("tiny", None, project)
    (project / "models/tiny_lora/entry.json").write_text("{")
    with pytest.raises(ModelError, match=r"entry\.json is damaged"):
        run_lineage("tiny_lora", None, project)
