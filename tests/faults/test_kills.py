"""Every stage, killed twenty times; goes on where it was stopped (tmp/faults), see `python -m tests.faults.killing`."""

from __future__ import annotations

import pytest

from tests.faults.killing import KILLS, kill_all
from tests.faults.smoke_copy import STAGES
from tests.stages.running import ROOT


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_is_run_again_as_if_nothing_had_been(stage: str) -> None:
    kills = kill_all([stage], KILLS)
    assert len(kills) == KILLS
    assert [kill.line for kill in kills if kill.faults] == []


def test_every_stage_of_the_pipeline_is_killed() -> None:
    import yaml

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert {stage.split("@")[0] for stage in STAGES} == set(stages)
