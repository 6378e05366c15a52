"""The derived collection on a Chroma server and in PostgreSQL: real servers, started here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import mark.ingest.chroma_server as chroma_server_module
from mark.commands.doctor import Check, _collection
from mark.config import ChromaServer, Ingest, PgVector
from mark.errors import ConfigError, DataError, MarkError
from mark.files import read_jsonl, write_jsonl
from mark.ingest.chroma_server import published_name, token_of
from mark.ingest.index import read_index, write_index
from mark.ingest.pgvector import as_text, table_name
from mark.ingest.stores import bring_up_to_date, store_place
from mark.ingest.vector_store import open_store
from mark.records import Chunk
from mark.retrieval.dense import ExactSearch
from mark.retrieval.serving import open_search
from tests.conftest import ROOT
from tests.ingest.conftest import SettingsFactory
from tests.ingest.servers import chroma_server, postgres_server
from tests.ingest.test_collection import TEXTS, data_folder


@pytest.fixture(scope="module")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["server", "postgres"])
def place(request: pytest.FixtureRequest, settings: SettingsFactory, tmp_path: Path) -> Ingest:
    """Settings of a store on a server, with a collection of this test's own."""
    name = f"c{tmp_path.name[-20:].replace('_', '-')}"
    if request.param == "server":
        server = {"url": request.getfixturevalue("chroma_url"), "token_env": None}
        return settings(collection=name, chroma=server)
    database = {"url": request.getfixturevalue("postgres_url"), "index": "hnsw"}
    return settings(collection=name, store="pgvector", pgvector=database)


def states(place: Ingest) -> list[str]:
    """Names of what the store holds of the collection."""
    if place.store == "chroma":
        assert place.chroma.url is not None
        found = [c.name for c in open_store(place.chroma.url).list_collections(limit=1000)]
        return sorted(name for name in found if name.startswith(place.collection))
    import psycopg

    with psycopg.connect(place.pgvector.url or "") as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return sorted(row[0] for row in rows if row[0].startswith(f"mark_{place.collection}"))


def state(place: Ingest, key: str) -> str:
    make = published_name if place.store == "chroma" else table_name
    return make(place.collection, key)


def lose_a_row(place: Ingest, key: str, chunk_id: str) -> None:
    if place.store == "chroma":
        assert place.chroma.url is not None
        open_store(place.chroma.url).get_collection(state(place, key), embedding_function=None).delete(
            ids=[chunk_id]
        )
        return
    import psycopg

    with psycopg.connect(place.pgvector.url or "", autocommit=True) as connection:
        connection.execute(f'DELETE FROM "{state(place, key)}" WHERE chunk_id = %s', (chunk_id,))


def scores(place: Ingest, data: Path, **more: Any) -> Any:
    """Of one question along each axis."""
    found = open_search(data, place, data.parent)
    return found.scores(np.eye(len(TEXTS), 4, dtype=np.float32), 2, more.get("barred", [None] * len(TEXTS)))


def test_written_once_found_and_mended(
    place: Ingest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="mark")
    data = data_folder(tmp_path / "data", TEXTS)
    bring_up_to_date(data, place, tmp_path)
    key = read_index(data).key
    assert states(place) == [state(place, key)]
    for row, found in enumerate(scores(place, data)):
        assert found[row] == pytest.approx(1.0)  # each vector finds itself
    told = caplog.text.count("writing")
    bring_up_to_date(data, place, tmp_path)
    assert caplog.text.count("writing") == told == 1

    (check,) = _collection_with(place, tmp_path)
    assert (check.found, check.remedy) == (f"3 chunks at {store_place(place)}", "")

    ids = [chunk.chunk_id for chunk in read_jsonl(data / "chunks.jsonl", Chunk)]
    stored = open_search(data, place, tmp_path).stored([2, 0])
    assert stored.tolist() == np.eye(3, 4, dtype=np.float32)[[2, 0]].tolist()
    lose_a_row(place, key, ids[0])
    with pytest.raises(DataError, match="run `mark ingest`"):
        open_search(data, place, tmp_path)
    (check,) = _collection_with(place, tmp_path)
    assert "run `mark ingest`" in check.found and check.remedy == "see docs/scale.md"
    bring_up_to_date(data, place, tmp_path)
    assert len(scores(place, data)) == 3


def _collection_with(place: Ingest, root: Path) -> list[Check]:
    """What `mark doctor` says of the store."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["ingest"] = place.model_dump()
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return list(_collection(root))


def test_readers_keep_the_last_state_and_older_ones_go(place: Ingest, tmp_path: Path) -> None:
    data, keys = tmp_path / "data", []
    for count in (1, 2, 3):
        data_folder(data, TEXTS[:count])
        bring_up_to_date(data, place, tmp_path)
        keys.append(read_index(data).key)
        if count == 2:
            reading = open_search(data, place, tmp_path)
    assert states(place) == sorted(state(place, key) for key in keys[1:])
    assert reading.scores(np.eye(1, 4, dtype=np.float32), 1, [None])[0].tolist() == [1.0, 0.0]


def test_a_state_that_is_used_again_is_no_old_one(place: Ingest, tmp_path: Path) -> None:
    """As after `git checkout` of an earlier commit and back: its readers keep it beside the next one."""
    data, keys = tmp_path / "data", []
    for count in (1, 2, 1, 3):
        data_folder(data, TEXTS[:count])
        bring_up_to_date(data, place, tmp_path)
        keys.append(read_index(data).key)
    assert keys[2] == keys[0]
    assert states(place) == sorted(state(place, key) for key in (keys[0], keys[3]))


def test_an_old_state_that_another_writer_removes_at_the_same_time(
    chroma_url: str, settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = settings(collection="twice", chroma={"url": chroma_url, "token_env": None})
    data, listed = tmp_path / "data", chroma_server_module._all
    for count in (1, 2):
        data_folder(data, TEXTS[:count])
        bring_up_to_date(data, place, tmp_path)
    old = states(place)

    def removed_meanwhile(client: Any) -> list[Any]:
        found = listed(client)
        for collection in found:
            if collection.name in old:
                client.delete_collection(collection.name)
        return found

    monkeypatch.setattr(chroma_server_module, "_all", removed_meanwhile)
    data_folder(data, TEXTS)
    bring_up_to_date(data, place, tmp_path)
    assert states(place) == [state(place, read_index(data).key)]


def test_a_state_that_another_writer_mended_meanwhile_stays(
    chroma_url: str, settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = settings(collection="mended", chroma={"url": chroma_url, "token_env": None})
    data = data_folder(tmp_path / "data", TEXTS)
    bring_up_to_date(data, place, tmp_path)
    key = read_index(data).key
    client = open_store(chroma_url)
    (first,) = states(place)
    before = client.get_collection(first, embedding_function=None).id
    monkeypatch.setattr(chroma_server_module, "is_published", lambda *_: False)  # seen before it was there
    bring_up_to_date(data, place, tmp_path)
    assert states(place) == [state(place, key)]
    assert client.get_collection(first, embedding_function=None).id == before


def test_it_answers_as_exact_search_does(place: Ingest, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1500, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    data = data_folder(tmp_path / "data", TEXTS)
    first = read_jsonl(data / "chunks.jsonl", Chunk)[0]
    chunks = [first.model_copy(update={"chunk_id": f"{n:016x}"}) for n in range(len(vectors))]
    write_jsonl(data / "chunks.jsonl", chunks)
    write_index(data, chunks, vectors, 3, "0" * 64)
    bring_up_to_date(data, place, tmp_path)
    served, exact = open_search(data, place, tmp_path), ExactSearch(vectors)
    questions = vectors[:40] + 0.1 * rng.normal(size=(40, 24)).astype(np.float32)
    some = np.ones(len(vectors), dtype=np.bool_)
    some[::7] = False  # True bars a chunk
    for barred in ([None] * 40, [some] * 40):
        wanted, found = exact.scores(questions, 10, barred), served.scores(questions, 10, barred)
        missed = 0
        for one, two in zip(wanted, found, strict=True):
            best = np.argsort(-one)[:10]
            missed += int(np.isneginf(two[best]).sum())
            seen = ~np.isneginf(two)
            np.testing.assert_allclose(two[seen], one[seen], atol=2e-6)
        assert missed <= (4 if barred[0] is None else 0)  # 1 % of 400 by an approximate index


def test_two_writers_at_once_leave_one_whole_state(place: Ingest, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", TEXTS)
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(bring_up_to_date, data, place, tmp_path) for _ in range(2)]
        assert [writer.result() for writer in writers] == [None, None]
    assert states(place) == [state(place, read_index(data).key)]
    assert len(scores(place, data)) == 3


def writing(place: Ingest) -> bool:
    """Whether another process is in the middle of writing."""
    if place.store == "chroma":
        return len(states(place)) > 1
    import psycopg

    query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ '^(COPY|CREATE INDEX)'"
    with psycopg.connect(place.pgvector.url or "") as connection:
        found = connection.execute(query).fetchone()
    return found is not None and found[0] > 0


def test_long_names_and_odd_characters(postgres_url: str, settings: SettingsFactory, tmp_path: Path) -> None:
    """A table's name has 63 bytes: states of one collection, and collections that begin alike, stay apart."""
    database = {"url": postgres_url, "index": "none"}
    data = tmp_path / "data"
    for name in ("ü" * 30, "ü" * 30 + "2"):
        place = settings(collection=name, store="pgvector", pgvector=database)
        for count in (2, 3):
            data_folder(data, TEXTS[:count])
            row = read_jsonl(data / "chunks.jsonl", Chunk)[0]
            rest = read_jsonl(data / "chunks.jsonl", Chunk)[1:]
            odd = row.model_copy(update={"title": "A\x00ct", "text": row.text + "\x00"})
            write_jsonl(data / "chunks.jsonl", [odd, *rest])
            write_index(data, [odd, *rest], np.eye(count, 4, dtype=np.float32), 1, "0" * 64)
            bring_up_to_date(data, place, tmp_path)
            assert open_search(data, place, tmp_path).stored([0]).tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert max(len(table_name("ü" * n, "0" * 64).encode()) for n in range(1, 60)) <= 63


@pytest.mark.long
def test_a_killed_writer_leaves_the_old_state_and_nothing_half(place: Ingest, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", TEXTS)
    bring_up_to_date(data, place, tmp_path)
    old = read_index(data).key
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(20_000, 64)).astype(np.float32)
    first = read_jsonl(data / "chunks.jsonl", Chunk)[0]
    chunks = [first.model_copy(update={"chunk_id": f"{n:016x}"}) for n in range(len(vectors))]
    write_jsonl(data / "chunks.jsonl", chunks)
    write_index(data, chunks, vectors, 3, "0" * 64)
    code = (
        "import sys; from pathlib import Path; from mark.config import Ingest; "
        "from mark.ingest.stores import bring_up_to_date; "
        "bring_up_to_date(Path(sys.argv[1]), Ingest.model_validate_json(sys.argv[2]), Path(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(data), place.model_dump_json()], start_new_session=True
    )
    until = time.monotonic() + 120
    while not writing(place):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    new = read_index(data).key
    left = [name for name in states(place) if name != state(place, old)]
    if place.store == "pgvector":
        assert left == []
    else:  # a server keeps it until it is a day old
        assert len(left) == 1 and left[0].startswith(f"{state(place, new)}-")
        assert place.chroma.url is not None
        collection = open_store(place.chroma.url).get_collection(left[0], embedding_function=None)
        collection.modify(metadata={**collection.metadata, "mark_made": 1})
    assert state(place, old) in states(place)
    bring_up_to_date(data, place, tmp_path)
    assert states(place) == sorted([state(place, old), state(place, new)])


def test_a_collection_of_that_name_that_is_not_ours_stays(
    chroma_url: str, settings: SettingsFactory, tmp_path: Path
) -> None:
    data = data_folder(tmp_path / "data", TEXTS)
    name = published_name("theirs", read_index(data).key)
    client = open_store(chroma_url)
    client.create_collection(name, embedding_function=None).add(
        ids=["a"], embeddings=[[1.0]], documents=["x"]
    )
    place = settings(collection="theirs", chroma={"url": chroma_url, "token_env": None})
    with pytest.raises(DataError, match=rf"collection {name} was not made by MARK and stays as it is"):
        bring_up_to_date(data, place, tmp_path)
    assert client.get_collection(name, embedding_function=None).get()["ids"] == ["a"]


def test_a_server_that_does_not_answer_is_one_line(settings: SettingsFactory, tmp_path: Path) -> None:
    from tests.ingest.servers import free_port

    data, port = data_folder(tmp_path / "data", TEXTS), free_port()
    url = f"http://127.0.0.1:{port}"
    with pytest.raises(DataError) as fault:
        bring_up_to_date(data, settings(chroma={"url": url, "token_env": None}), tmp_path)
    assert f"no Chroma server answers at {url} (" in str(fault.value) and "\n" not in str(fault.value)
    assert "`chroma run --path FOLDER" in str(fault.value)
    pytest.importorskip("psycopg")
    database = {"url": f"postgresql://mark@127.0.0.1:{port}/law", "index": "hnsw"}
    with pytest.raises(DataError) as fault:
        bring_up_to_date(data, settings(store="pgvector", pgvector=database), tmp_path)
    assert str(fault.value).startswith(f"PostgreSQL at 127.0.0.1:{port}/law: ")
    assert "\n" not in str(fault.value)


def test_what_conf_allows(settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(chroma={"url": "", "token_env": None}).chroma.url is None
    assert store_place(settings()) == "chroma_db"
    database = {"url": "postgresql://mark@db.example:5432/law", "index": "none"}
    assert store_place(settings(store="pgvector", pgvector=database)) == "PostgreSQL at db.example:5432/law"
    for wrong in ("chroma.example:8000", "http://user@host", "http://host/?key=1", "ftp://host"):
        with pytest.raises(
            ValueError, match="without user, password or query; a token is named by token_env"
        ):
            ChromaServer(url=wrong, token_env=None)
    with pytest.raises(ValueError, match="without a path, which Chroma's client leaves out"):
        ChromaServer(url="http://host:8000/chroma", token_env=None)
    assert ChromaServer(url="http://host:8000/", token_env=None).url == "http://host:8000/"
    for wrong in ("postgresql://mark:secret@db/law", "http://db/law", "postgresql:///law"):
        with pytest.raises(ValueError, match="the password is PGPASSWORD's"):
            PgVector(url=wrong, index="hnsw")
    with pytest.raises(ValueError, match=r"store=pgvector needs pgvector\.url"):
        settings(store="pgvector")
    with pytest.raises(ValueError, match="a key itself never stands in conf"):
        ChromaServer(url="http://host", token_env="sk-abc")
    server = ChromaServer(url="http://host", token_env="CHROMA_TOKEN")
    monkeypatch.delenv("CHROMA_TOKEN", raising=False)
    with pytest.raises(
        ConfigError, match=r"the environment variable CHROMA_TOKEN that ingest\.chroma\.token_env"
    ):
        token_of(server)
    monkeypatch.setenv("CHROMA_TOKEN", "abc")
    assert token_of(server) == "abc"


def test_a_vector_as_text_gives_each_number_back() -> None:
    numbers = np.random.default_rng(0).normal(size=2000).astype(np.float32) / 7
    again = np.array(as_text(numbers)[1:-1].split(","), dtype=np.float32)
    assert again.tobytes() == numbers.tobytes()


def test_without_psycopg_it_is_one_line(
    settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    data = data_folder(tmp_path / "data", TEXTS)
    place = settings(store="pgvector", pgvector={"url": "postgresql://mark@db/law", "index": "hnsw"})
    with pytest.raises(MarkError, match=r"psycopg is not installed: run `pip install 'psycopg\[binary\]'`"):
        bring_up_to_date(data, place, tmp_path)
