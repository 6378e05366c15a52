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


def kept_by_rlhf(record: Mapping[str, Any], root: Path) -> tuple[bool, str]:
    """Whether the report of RLHF kept this entry, and its reason.

    Args:
        record: The content of its entry.json.
        root: The project's root.
    """
    if record.get("method") == "sft":
        return False, "it is RLHF's control arm, which is there to be compared with"
    try:
        found = read_json(root / REPORT)["rlhf"]
        kept, reason = found["kept"] == "rlhf", str(found["reason"])
        reported = found.get("val_reward", {}).get("rlhf")
    except DataError:
        return False, f"{REPORT} is missing or damaged; run `dvc repro rlhf_report`"
    except (KeyError, TypeError, AttributeError):
        return False, f"{REPORT} is damaged; run `dvc repro -f rlhf_report`"
    own = record.get("val_reward")
    if reported is not None and own is not None and abs(reported - own) > 1e-6:
        return False, f"{REPORT} is about another training of it; run `dvc repro rlhf_report`"
    return kept, f"RLHF's own comparison kept {found['kept']}: {reason}"
