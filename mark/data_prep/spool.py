"""Sound questions on disk, handed out in the order of `candidates.balanced`: memory stays small."""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from mark.data_prep.candidates import WEIGHTS, Candidate
from mark.errors import DataError
from mark.records import Chunk, Split
from mark.seeding import derived_seed

CACHE_KIB = 4096  # of SQLite; what is larger is sorted on disk
_NO_ROOM = re.compile("disk|full|unable to open|readonly")  # what SQLite says of a folder that fails it
FETCH = 256  # rows read at once

_TABLE = """
    CREATE TABLE candidates (
        id INTEGER PRIMARY KEY, split TEXT, variant INTEGER, rule TEXT, style TEXT, document TEXT,
        key INTEGER, question TEXT, chunk TEXT, rest TEXT
    )
"""
# Documents in turn within a group of one wording, rule and style; then weighted fair queueing over groups.
_ORDER = """
    WITH turns AS (
        SELECT id, variant, rule, style, document, ROW_NUMBER() OVER (
            PARTITION BY variant, rule, style, document ORDER BY key, question, id) AS turn
        FROM candidates WHERE split = :split
    ), places AS (
        SELECT id, variant, rule, style, ROW_NUMBER() OVER (
            PARTITION BY variant, rule, style ORDER BY turn, document) AS place
        FROM turns
    )
    INSERT INTO ordered (id)
    SELECT id FROM places JOIN weights USING (variant, rule, style)
    ORDER BY variant, (place - 0.5) / weight, rule || '/' || style
"""
_READ = """
    SELECT chunk, rest FROM ordered JOIN candidates USING (id) ORDER BY place
"""


class Spool:
    """A temporary file of candidates; use it as a context manager."""

    def __init__(self, chunks: Mapping[str, Chunk], seed: int) -> None:
        """Open an empty file in the system's temporary folder.

        Args:
            chunks: The corpus by chunk id.
            seed: The run's seed.
        """
        self._chunks = chunks
        self._seed = seed
        self._folder = tempfile.TemporaryDirectory(prefix="mark-candidates-")
        self._base = sqlite3.connect(Path(self._folder.name) / "candidates.sqlite")
        for line in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._base.execute(f"PRAGMA {line}")
        self._base.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._base.execute(_TABLE)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()
        self._folder.cleanup()
        if isinstance(fault, sqlite3.OperationalError) and _NO_ROOM.search(str(fault)):
            raise DataError(
                f"questions could not be spooled to {tempfile.gettempdir()} ({fault}); free some space there "
                "or let TMPDIR name another folder"
            ) from None

    def add(self, split: Split, candidate: Candidate) -> None:
        """Put a candidate aside."""
        key = derived_seed(self._seed, "order", candidate.draft, candidate.question)
        fields = {name: value for name, value in vars(candidate).items() if name != "chunk"}
        self._base.execute(
            "INSERT INTO candidates VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                split, candidate.variant, candidate.rule, candidate.style, candidate.chunk.document, key,
                candidate.question, candidate.chunk.chunk_id, json.dumps(fields),
            ),
        )  # fmt: skip

    def balanced(self, split: Split) -> Iterator[Candidate]:
        """The candidates of a split; any beginning holds all rules, styles and documents in fair shares."""
        base = self._base
        base.execute("DROP TABLE IF EXISTS weights")
        base.execute("DROP TABLE IF EXISTS ordered")
        base.execute("CREATE TABLE weights (variant INTEGER, rule TEXT, style TEXT, weight REAL)")
        base.execute("CREATE TABLE ordered (place INTEGER PRIMARY KEY, id INTEGER)")
        groups = base.execute(
            "SELECT DISTINCT variant, rule, style FROM candidates WHERE split = ?", (split,)
        ).fetchall()
        for variant, rule, style in groups:
            families = len({r for v, r, s in groups if v == variant and s == style})
            weight = WEIGHTS.get(rule, 1.0) / families
            base.execute("INSERT INTO weights VALUES (?, ?, ?, ?)", (variant, rule, style, weight))
        base.execute(_ORDER, {"split": split})
        rows = base.execute(_READ)
        while part := rows.fetchmany(FETCH):
            for chunk_id, fields in part:
                yield Candidate(chunk=self._chunks[chunk_id], **json.loads(fields))

    def count(self, split: Split) -> int:
        """How many candidates a split has."""
        return int(
            self._base.execute("SELECT COUNT(*) FROM candidates WHERE split = ?", (split,)).fetchone()[0]
        )
