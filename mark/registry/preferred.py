"""Whether RLHF kept the entry that it made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mark.errors import DataError
from mark.files import METRICS, read_json

REPORT = METRICS / "rlhf.json"


def made_by_rlhf(record: Mapping[str, Any]) -> bool:
    """Whether an entry.json names the entry that RLHF started from."""
    return {"sft", "sft_sha256"} <= set(record)


def kept_by_rlhf(record: Mapping[str, Any], sha256: str, root: Path) -> tuple[bool, str]:
    """Whether the report of RLHF kept this entry, and its reason.

    Args:
        record: The content of its entry.json.
        sha256: Of its adapter.
        root: The project's root.
    """
    if record.get("method") == "sft":
        return False, "it is RLHF's control arm, which is there to be compared with"
    try:
        found = read_json(root / REPORT)["rlhf"]
        kept, reason = found["kept"] == "rlhf", str(found["reason"])
        judged = found.get("adapter_sha256")  # files of older versions name none
    except DataError:
        return False, f"{REPORT} is missing or damaged; run `dvc repro rlhf_report`"
    except (KeyError, TypeError, AttributeError):
        return False, f"{REPORT} is damaged; run `dvc repro -f rlhf_report`"
    if judged != sha256:
        return False, f"{REPORT} is about another training of it; run `dvc repro rlhf_report`"
    return kept, f"RLHF's own comparison kept {found['kept']}: {reason}"
