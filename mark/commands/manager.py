"""`mark run --stage ...`: the runbook's training manager; dry unless confirmed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mark.commands.dvc import dvc
from mark.commands.training import TrainRequest, run_training
from mark.config import Train, load_section

_DVC_STAGE = {"data_prep": "data_prep", "lora": "train", "eval": "eval"}


def run_stage_by_name(stage: str, confirmed: bool, root: Path) -> str:
    """Say what a stage would do, or run it with the stages that it needs.

    Args:
        stage: data_prep, lora or eval.
        confirmed: False: only say.
        root: The project's root.

    Returns:
        The text to print.
    """
    target = _DVC_STAGE[stage]
    if confirmed:
        if stage == "lora":
            from mark.train.guard import check_guards

            check_guards(load_section(Train, "train", root / "params.yaml"), confirmed=True)
        dvc(["repro", target], root)
        return f"{stage}: up to date"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--dry", target],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if stage == "lora":
        lines.append(run_training(TrainRequest(None, None, confirmed=False), root))
    lines.append(f"Nothing was run. `mark run --stage {stage} --confirm` runs it.")
    return "\n".join(lines)
