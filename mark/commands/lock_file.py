"""What dvc.lock of a revision says: whether a stage's outputs belong to that revision's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mark.reproduce.dvc_yaml import read_mapping
from mark.reproduce.pipeline import DVC_LOCK

_Stages = Mapping[str, Mapping[str, Any]]


def read_lock(text: str) -> dict[str, dict[str, Any]]:
    """The stages of a dvc.lock.

    Args:
        text: The file; "" where there is none.

    Raises:
        DataError: It is damaged.
    """
    return dict(read_mapping(text, DVC_LOCK).get("stages") or {}) if text else {}


def is_current(stage: str, stages: _Stages, params: Mapping[str, Any]) -> bool:
    """Whether a stage ran on these params and on the present outputs of the stages before it.

    An experiment that ran a part of the pipeline carries the other stages' metrics along unchanged, which are
    then of other settings. Code is not compared: it is that of the commit.

    Args:
        stage: As dvc.lock names it, e.g. `eval@transformer_lora`.
        stages: Of dvc.lock.
        params: Of params.yaml.
    """
    if stage not in stages:
        return False
    for key, value in stages[stage].get("params", {}).get("params.yaml", {}).items():
        if _lookup(params, key) != value:
            return False
    made_by = {
        out["path"]: (name, out.get("md5")) for name, one in stages.items() for out in one.get("outs", [])
    }
    for dep in stages[stage].get("deps", []):
        maker, md5 = made_by.get(dep["path"], (None, None))
        if maker is not None and (dep.get("md5") != md5 or not is_current(maker, stages, params)):
            return False
    return True


def out_md5(path: str, stages: _Stages) -> str | None:
    """The hash of an output, None where no stage wrote it."""
    for one in stages.values():
        for out in one.get("outs", []):
            if out["path"] == path:
                return str(out["md5"])
    return None


def _lookup(params: Mapping[str, Any], key: str) -> Any:
    found: Any = params
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
