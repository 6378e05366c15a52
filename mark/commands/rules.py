"""`mark rules`: what each rule family gave, and examples of it to read."""

from __future__ import annotations

from pathlib import Path

from mark.errors import DataError


def rules_table(data: Path) -> str:
    """The rule families of `data/ledger.json` as a table.

    Raises:
        DataError: There is no ledger, or its sums do not match.
    """
    from mark.data_prep.ledger import read_ledger
    from mark.data_prep.yields import yield_table
    from mark.files import LEDGER

    return yield_table(read_ledger(data / LEDGER.name).rules)


def write_sample(data: Path, per_family: int, seed: int, out: Path) -> str:
    """Kept training examples of each family as a CSV to write verdicts into.

    Raises:
        DataError: There are no training examples, or `out` exists.
    """
    from mark.data_prep.yields import sample_kept, write_reading_list
    from mark.files import TRAIN_SFT, read_jsonl
    from mark.records import Example

    path = data / TRAIN_SFT.name
    if not path.is_file():
        raise DataError(f"{path} is missing; `dvc repro data_prep` writes it")
    picked = sample_kept(read_jsonl(path, Example), per_family, seed)
    write_reading_list(picked, out)
    families = len({row.rule_id for row in picked})
    columns = "verdict (good, awkward, wrong) and reason"
    return f"{len(picked)} examples of {families} families in {out}: fill in {columns}"
