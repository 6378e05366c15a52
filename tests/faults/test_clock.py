"""The clock was set back: files are dated in the future, newer lines bear older times. Order and bytes decide."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mark.commands.stage import remove_leftovers
from mark.files import ADAPTER, CHUNKS, read_jsonl, sha256_file
from mark.ingest.cache import DocumentCache
from mark.ingest.index import write_index
from mark.ingest.stores import bring_up_to_date
from mark.ingest.vector_store import open_store
from mark.pipeline import feedback as taking
from mark.pipeline import journal as journalling
from mark.pipeline.feedback import newest_response_id
from mark.pipeline.journal import JOURNAL, Journal, find_entry
from mark.records import Chunk, Page
from mark.registry import champion
from mark.registry.champion import Champion, read_champion
from mark.registry.promotion import _standing
from mark.rlhf.feedback import read_inbox
from mark.serve.page_rows import PageRows
from mark.serve.pool import file_signature
from mark.train.checkpoints import newest_complete
from mark.train.trainer import AnswerTrainer
from tests.conftest import ROOT
from tests.data_prep.test_llm_endpoint import test_a_date_is_one_of_the_servers_clock as of_retry_after
from tests.faults.kept import code_sha256, kept_template
from tests.faults.killing import FOLDER
from tests.faults.smoke_copy import STAGES, SmokeCopy
from tests.faults.test_pickles import interrupted, trained
from tests.ingest.conftest import SettingsFactory, settings
from tests.ingest.servers import chroma_server
from tests.ingest.test_collection import TEXTS, data_folder
from tests.pipeline.test_add_feedback import answer, journalled, rate
from tests.rlhf.test_feedback import reasons
from tests.train.small import make_inputs

__all__ = ["settings"]

FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


class Ahead(datetime):
    """The clock before it was set back."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """A day of the future."""
        return FUTURE.astimezone(tz)


def date_ahead(folder: Path) -> None:
    """Date all below a folder in the future, links themselves and not what they name."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (FUTURE.timestamp(),) * 2, follow_symlinks=False)


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_on_files_of_the_future_gives_the_same_bytes(stage: str) -> None:
    """All of the project, its checkpoints and caches too; then the stage that never ran, and nothing else."""
    copy = SmokeCopy.below(kept_template(FOLDER, code_sha256()), FOLDER / "clock")
    copy.fresh(stage)
    date_ahead(copy.project)
    assert list(copy.run_again(stage)) == []


def test_a_training_goes_on_from_its_last_step_and_keeps_that(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers goes by the dates of checkpoints: it removed each new one that was not the best."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    validated = AnswerTrainer.evaluate

    def worse_each_time(self: AnswerTrainer, *rest: Any, **named: Any) -> dict[str, float]:
        return validated(self, *rest, **named) | {"eval_loss": float(self.state.global_step)}

    monkeypatch.setattr(AnswerTrainer, "evaluate", worse_each_time)
    for folder in (whole, cut):
        make_inputs(folder, tiny_llama_dir)
    trained(whole)
    run = interrupted(cut, at=5)
    date_ahead(run)
    assert interrupted(cut, at=9) == run
    found = sorted(path.name for path in run.glob("checkpoint-*"))
    assert found == ["checkpoint-2", "checkpoint-8"], found  # the best and the last
    newest = newest_complete(run)
    assert newest is not None and newest.name == "checkpoint-8"
    trained(cut)
    first, second = (folder / "models/tiny_lora" / ADAPTER for folder in (whole, cut))
    assert sha256_file(first) == sha256_file(second)


def test_the_cache_of_ingest_keeps_what_this_run_used(
    tmp_path: Path, tiny_bert_dir: Path, settings: SettingsFactory, caplog: pytest.LogCaptureFixture
) -> None:
    folder, texts = tmp_path / "cache", ["bread"] * 1000
    vectors = np.ones((1000, 100), dtype=np.float32)  # 0.4 MB
    before = DocumentCache(folder, settings(cache_mb=1), tiny_bert_dir)
    for content in ("a", "b"):
        before.keep_vectors(content, texts, vectors)
    (folder / "a/.half").write_bytes(b"what a killed run left")
    date_ahead(folder)
    now = DocumentCache(folder, settings(cache_mb=1), tiny_bert_dir)
    for content in ("c", "d"):
        now.keep_vectors(content, texts, vectors)
    now.prune()
    assert {path.parent.name for path in folder.glob("*/vectors-*")} == {"c", "d"}
    assert "too small" not in caplog.text
    assert all(
        path.stat().st_mtime < FUTURE.timestamp() for path in folder.glob("*/*")
    )  # it ages from now on
    assert (folder / "a/.half").exists()


def test_what_a_killed_stage_left_ages_from_now_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    left = tmp_path / "models/.random_lora.ab12cd_9"
    left.mkdir(parents=True)
    date_ahead(tmp_path)
    remove_leftovers()
    assert left.stat().st_mtime < FUTURE.timestamp()
    monkeypatch.setattr("mark.commands.stage.time.time", lambda: left.stat().st_mtime + 3700)
    remove_leftovers()
    assert not left.exists()


def test_a_chroma_server_keeps_the_last_two_states(tmp_path: Path, settings: SettingsFactory) -> None:
    """A state of the future stands before the one that is being published, not before those that follow."""
    data = data_folder(tmp_path / "data", TEXTS)
    names: list[str] = []
    with chroma_server(tmp_path / "server") as url:
        place, client = settings(collection="club", chroma={"url": url, "token_env": None}), open_store(url)
        for number in range(3):
            publish(data, place, number, tmp_path)
            (new,) = {found.name for found in client.list_collections()} - set(names)
            names.append(new)
            if number == 0:
                kept = client.get_collection(new, embedding_function=None)
                made = int(FUTURE.timestamp()) * 10**9
                kept.modify(metadata={**kept.metadata, "mark_made": made})
        assert {found.name for found in client.list_collections()} == set(names[-2:])


def publish(data: Path, place: Any, number: int, root: Path) -> None:
    """A state of its own: the same chunks, other vectors."""
    chunks = read_jsonl(data / CHUNKS.name, Chunk)
    vectors = np.random.default_rng(number).normal(size=(len(chunks), 16)).astype(np.float32)
    write_index(data, chunks, vectors, 3, f"{number:064x}")
    bring_up_to_date(data, place, root)


def test_the_journal_and_the_inbox_go_by_the_order_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    with monkeypatch.context() as before:
        for module in (journalling, taking):
            before.setattr(module, "datetime", Ahead)
        (old,) = journalled(tmp_path, answer(1))
        assert rate(tmp_path, old, "up").row.received.startswith("2100-01-01")
    (new,) = journalled(tmp_path, answer(2))
    first = find_entry(tmp_path, old)
    assert first is not None and first.time.startswith("2100-01-01")
    assert newest_response_id(tmp_path) == new
    assert rate(tmp_path, old, "down").placed == "changed"
    rows = read_inbox(tmp_path).rows
    assert [row.thumb for row in rows] == ["up", "down"]
    assert reasons(rows) == ["superseded", None]  # what was said last counts
    given = [answer(number) for number in range(3, 14)]
    Journal(tmp_path, 2).write(given)
    assert (tmp_path / JOURNAL).read_bytes().count(b"\n") == 2
    assert newest_response_id(tmp_path) == given[-1].response_id


def test_the_champion_is_the_last_line_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, clock in (("old_lora", Ahead), ("new_lora", datetime)):
        monkeypatch.setattr(champion, "datetime", clock)
        row = Champion(
            entry=name, adapter_sha256="0" * 64, at=champion.now(), over=None, forced=False, reason="better"
        )
        champion.append(tmp_path, row)
    log = champion.read_log(tmp_path)
    assert log[0].at.startswith("2100") and log[1].at < log[0].at
    last = read_champion(tmp_path)
    assert last is not None and last.entry == "new_lora"
    assert [row.entry for row in _standing(log)] == [
        "old_lora",
        "new_lora",
    ]  # `undo` brings the one before back


def test_a_server_sees_that_a_file_changed_whichever_way_its_date_went(tmp_path: Path) -> None:
    path = tmp_path / "data/pages.jsonl"
    path.parent.mkdir()
    path.write_text(page("lease").model_dump_json() + "\n")
    date_ahead(path.parent)
    seen, rows = file_signature(path), PageRows(tmp_path)
    assert rows.find("lease", 1).text == "lease"
    with path.open("r+") as stream:  # the same file and size
        stream.write(page("peace").model_dump_json())
    assert path.stat().st_mtime < FUTURE.timestamp()
    assert file_signature(path) != seen
    assert rows.find("peace", 1).text == "peace"


def page(name: str) -> Page:
    return Page(
        doc_id="0" * 64, document=name, title=name, page=1, label="1", text=name, offset=0, raw_map=[(0, 0)]
    )  # fmt: skip


# Each use of the clock or of a file's date in mark/ that could decide something, and what shows that it does not.
CLOCKS: dict[str, Callable[..., None] | str] = {
    "mark/commands/proof.py": "the day of a page that people read",
    "mark/commands/stage.py": test_what_a_killed_stage_left_ages_from_now_on,
    "mark/data_prep/llm/endpoint.py": of_retry_after,
    "mark/evaluation/dataset.py": "the name of a report that people read",
    "mark/ingest/cache.py": test_the_cache_of_ingest_keeps_what_this_run_used,
    "mark/ingest/index.py": "a file's date is compared with itself: unequal is changed",
    "mark/pipeline/feedback.py": test_the_journal_and_the_inbox_go_by_the_order_of_lines,
    "mark/pipeline/journal.py": test_the_journal_and_the_inbox_go_by_the_order_of_lines,
    "mark/registry/champion.py": test_the_champion_is_the_last_line_of_its_log,
    "mark/serve/completions.py": "`created` of OpenAI's schema",
    "mark/serve/models.py": "`created` of OpenAI's schema",
    "mark/serve/page_rows.py": test_a_server_sees_that_a_file_changed_whichever_way_its_date_went,
    "mark/serve/pool.py": test_a_server_sees_that_a_file_changed_whichever_way_its_date_went,
    "mark/serve/streaming.py": "`created` of OpenAI's schema",
    "mark/train/together.py": "any number that two runs do not share",
}
_CLOCK = re.compile(r"\btime\.time(_ns)?\(|\b(datetime|date)\.(now|today|utcnow)\(|st_[mca]time|getmtime")


def test_each_use_of_the_clock_is_known() -> None:
    """What lasts is measured by time.monotonic and time.perf_counter, which never go back."""
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("mark", "stages")
        for path in (ROOT / folder).rglob("*.py")
        if _CLOCK.search(path.read_text(encoding="utf-8"))
    }
    assert found == CLOCKS.keys()
