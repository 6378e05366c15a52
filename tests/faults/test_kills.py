"""Every stage, killed twenty times; goes on where it was stopped (tmp/faults), see `python -m tests.faults.killing`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import killing
from tests.faults.killing import KILLS, KeptKills, Kill, Killing, kill_all, page, table
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


def made(stage: str, number: int, faults: tuple[str, ...] = ()) -> Kill:
    how = f"write {number} of 9 + 0 ms" if number % 2 else "0.41 of 12.3 s"
    return Kill("c", stage, number, how, ["data/.x.12345678"] * (number == 0), list(faults))


def test_a_run_that_was_stopped_goes_on_after_the_kills_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    def kill(self: Killing, stage: str, number: int) -> Kill:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(number)
        return made(stage, number)

    monkeypatch.setattr(killing, "code_sha256", lambda: "c")
    monkeypatch.setattr(killing, "kept_template", lambda folder, code: folder / "template")
    monkeypatch.setattr(Killing, "kill", kill)
    with pytest.raises(KeyboardInterrupt):
        kill_all(["train"], 3, tmp_path)
    with (tmp_path / "kills.jsonl").open("a") as file:
        file.write('{"code": "c", "sta')  # it was killed while it wrote a line
    monkeypatch.setattr(Killing, "kill", lambda self, stage, number: made(stage, number, ("differs",)))
    kills = kill_all(["train"], 3, tmp_path)
    assert [(kill.number, kill.faults) for kill in kills] == [(0, []), (1, []), (2, ["differs"])]
    assert KeptKills(tmp_path, "c").rows.keys() == {("train", 0), ("train", 1), ("train", 2)}
    assert KeptKills(tmp_path, "other").rows == {}


def test_the_table_counts_and_names_what_went_wrong() -> None:
    bad = made("train", 1, ("models/x differs",))
    shown = table([made("corpus", 0), made("train", 0), bad]).splitlines()
    assert (
        " ".join(shown[0].split()) == "stage kills at a moment at a write left files then as an unbroken run"
    )
    assert [line.split() for line in shown[1:4]] == [
        ["corpus", "1", "1", "0", "1", "1"], ["train", "2", "1", "1", "1", "1"], ["all", "3", "2", "1", "2", "2"]
    ]  # fmt: skip
    assert shown[4:] == [bad.line]


def test_the_page_says_which_code_was_killed() -> None:
    shown = page([made("corpus", 0), made("corpus", 1, ("x differs",))], "c1", "2026-01-02")
    assert "Commit c1, 2026-01-02." in shown and "x differs" in shown
