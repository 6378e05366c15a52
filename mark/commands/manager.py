"""`mark run --stage ...`: the runbook's training manager; dry unless confirmed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mark.commands.dvc import dvc
from mark.commands.training import TrainRequest, run_training
from mark.config import Eval, Train, load_section
from mark.errors import MarkError

_DVC_STAGE = {"data_prep": "data_prep", "lora": "train", "rlhf": "rlhf", "compare": "compare"}


def run_stage_by_name(stage: str, confirmed: bool, root: Path) -> str:
    """Say what a stage would do, or run it with the stages that it needs.

    Args:
        stage: data_prep, lora, eval, rlhf or compare.
        confirmed: False: only say.
        root: The project's root.

    Returns:
        The text to print.
    """
    target = _target(stage, root)
    if confirmed:
        if stage == "lora":
            from mark.train.guard import check_guards

            check_guards(load_section(Train, "train", root / "params.yaml"), confirmed=True)
        dvc(["repro", target], root)
        return f"{stage}: up to date"
    lines = _would_run(target, root)
    if stage == "lora":
        lines.append(run_training(TrainRequest(None, None, confirmed=False), root))
    lines.append(f"Nothing was run. `mark run --stage {stage} --confirm` runs it.")
    return "\n".join(lines)


def _target(stage: str, root: Path) -> str:
    """Its name in dvc.yaml; `eval` is the fine-tuned entry's, since RLHF's own needs the stage rlhf."""
    if stage == "eval":
        return f"eval@{load_section(Eval, 'eval', root / 'params.yaml').entries[0]}"
    return _DVC_STAGE[stage]


def _would_run(target: str, root: Path) -> list[str]:
    """A line for each stage up to `target`: whether DVC would run it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            names = [stage.addressing for stage in _upstream(repo, target)]
            stale = repo.status(targets=names)
    except DvcException as fault:
        raise MarkError(
            f"DVC cannot read this project: {str(fault).splitlines()[0]}; run `mark doctor`"
        ) from None
    return [f"{name}: {'would run' if name in stale else 'up to date'}" for name in names]


def _upstream(repo: Any, target: str) -> list[Any]:
    """The pipeline's stages that `target` needs, in the order in which they run."""
    import networkx

    wanted = next(stage for stage in repo.index.stages if stage.addressing.split("@")[0] == target)
    graph = repo.index.graph  # an edge leads from a stage to what it needs
    needed = {wanted, *networkx.descendants(graph, wanted)}
    order = [stage for stage in networkx.topological_sort(graph.reverse()) if stage in needed]
    return [stage for stage in order if not stage.is_data_source]
