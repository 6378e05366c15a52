"""The spread over seeds: its arithmetic by hand, its file, and the lines of `mark report`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock

from mark.commands.seeds import SeedNotes, run_seeds
from mark.errors import DataError, GuardError, MarkError
from mark.files import read_json
from mark.reproduce.git import commit_of
from mark.reproduce.pipeline import lock_of
from mark.reproduce.seeds import (
    SEEDS,
    Spread,
    gain_label,
    key_at,
    measure,
    numbers_of,
    read_spread,
    seeds_of,
    write_spread,
)
from tests.reproduce.conftest import call, commit

GAIN = "/compare/gain/tiny_lora/over tiny + retrieval/difference"
COMPARE = "metrics/compare.json"


def content(gain: float) -> dict[str, object]:
    """metrics/compare.json with one gain."""
    return {"compare": {"gain": {"tiny_lora": {"over tiny + retrieval": {"difference": gain, "low": -1}}}}}


def test_mean_and_deviation() -> None:
    # Mean .14; squares .0016 + 0 + .0016 = .0032, over 2 = .0016, whose root is .04.
    found = measure([0.10, 0.14, 0.18])
    assert (found.runs, found.low, found.high) == (3, 0.10, 0.18)
    assert found.mean == pytest.approx(0.14) and found.deviation == pytest.approx(0.04)
    assert found.range == pytest.approx(0.08)
    # Two values: mean 2, squares 1 + 1 = 2, over 1, whose root is 1.414.
    assert measure([1.0, 3.0]).deviation == pytest.approx(2**0.5)


def test_numbers_are_numbers_and_gains_are_found() -> None:
    assert numbers_of({"a": 1, "b": [0.5, "x"], "c": True, "d": None, "e/f": {"g": 2.0}}) == {
        "/a": 1.0, "/b/0": 0.5, "/e~1f/g": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pointer", "judged", "label"),
    [
        (GAIN, "handwritten", "tiny_lora over tiny + retrieval"),
        (GAIN.replace("difference", "low"), "handwritten", None),
        ("/compare/questions", "handwritten", None),
        ("/eval_a_lora/gain/rule_made/over_base_retrieval/difference", "handwritten", "rule made over base retrieval"),
        ("/eval_a_lora/gain/all/over_base_retrieval/difference", "handwritten", None),
        ("/rlhf/handwritten/gain/over_sft/token_f1/difference", "handwritten", "handwritten over sft: token f1"),
        ("/rlhf/rule_made/gain/over_sft/token_f1/difference", "handwritten", "rule made over sft: token f1"),
        ("/rlhf/all/gain/over_sft/token_f1/difference", "handwritten", None),
        ("/rlhf/all/gain/over_sft/token_f1/difference", "all", "all over sft: token f1"),
        ("/rlhf/handwritten/gain/over_base/token_f1/difference", "handwritten", None),
    ],
)  # fmt: skip
def test_a_gain_is_called_as_the_report_that_prints_it(pointer: str, judged: str, label: str | None) -> None:
    assert gain_label(pointer, judged) == label


def test_a_seed_that_lacks_a_number_leaves_a_gap() -> None:
    spread = Spread(commit="c", pipeline="p", seeds=[], values={})
    spread = spread.with_run(7, {COMPARE: {"a": 1, "b": 5}})
    spread = spread.with_run(8, {COMPARE: {"a": 3}, "metrics/rlhf.json": {"r": 2}})
    assert spread.values == {COMPARE: {"/a": [1, 3], "/b": [5, None]}, "metrics/rlhf.json": {"/r": [None, 2]}}
    measured = spread.measured(COMPARE, "/a")
    assert measured is not None and measured.range == 2
    assert spread.measured(COMPARE, "/b") is None and spread.measured("x", "/a") is None


def test_the_file_holds_a_number_a_line_and_is_read_back(tmp_path: Path) -> None:
    spread = Spread(
        commit="c", pipeline="p", seeds=[7, 8], values={COMPARE: {"/a": [0.1, None], "/b": [1.0, 2.0]}}
    )
    write_spread(spread, tmp_path)
    assert read_spread(tmp_path) == spread
    assert '      "/b": [1.0, 2.0]\n' in (tmp_path / SEEDS).read_text()
    (tmp_path / SEEDS).write_text(json.dumps(spread.model_dump() | {"seeds": [7]}))
    with pytest.raises(DataError, match="a number has not one value a seed"):
        read_spread(tmp_path)
    (tmp_path / SEEDS).unlink()
    assert read_spread(tmp_path) is None


def test_other_seeds_are_run_in_a_clone_and_the_workspace_stays(
    tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {
        p: p.read_bytes()
        for p in tiny.rglob("*")
        if p.is_file() and not {".git", ".dvc", "tmp", "mark"} & set(p.parts)
    }
    # The gain is a hundredth of the seed: 7 and 8 give 7 and 8 points, whose mean is 7.5 and deviation 0.7.
    text = run_seeds(2, None, tiny)
    assert (
        "  tiny_lora over tiny + retrieval       +7.0       +7.5        0.7       +7.0       +8.0          2"
        in text
    )
    assert {p: p.read_bytes() for p in before} == before
    changed = call(tiny, "git", "status", "--porcelain").splitlines()
    assert changed == [f"?? {SEEDS}"]

    # A third seed alone is run now: deviation 1.0 of 7, 8, 9.
    capfd.readouterr()
    text = run_seeds(3, None, tiny)
    assert capfd.readouterr().err.count("python make.py compare") == 1
    assert "+8.0        1.0       +7.0       +9.0          3" in text
    spread = read_spread(tiny)
    assert spread is not None and spread.seeds == [7, 8, 9]
    assert spread.values["metrics/eval_tiny_lora.json"]["/eval_tiny_lora/token_f1"] == pytest.approx(
        [0.37, 0.38, 0.39]
    )

    notes = SeedNotes.of_project(tiny)
    assert notes.head == "Seed of every gain: 7. Measured over seeds 7, 8, 9."
    head, row = notes.beside(Path(COMPARE), read_json(tiny / COMPARE))
    assert head.split()[:4] == ["gain,", "points", "seed", "7"]
    assert row.split()[-6:] == ["+7.0", "+8.0", "1.0", "+7.0", "+9.0", "3"]
    assert notes.beside(Path("metrics/rlhf.json"), {"rlhf": {"pairs": 3}}) == []  # no gain in it


@pytest.mark.parametrize("committed", [False, True])
def test_a_spread_of_other_code_is_told_apart(tiny: Path, committed: bool) -> None:
    first = commit_of(tiny, "HEAD")
    spread = Spread(commit=first, pipeline=key_at(tiny, first), seeds=[], values={})
    for seed in (7, 8):
        spread = spread.with_run(seed, {COMPARE: content(seed / 100)})
    write_spread(spread, tiny)
    other = f"Measured over seeds 7, 8 of commit {first[:10]}, which has other code, data or settings."

    def told() -> str:
        if committed:
            commit(tiny, "a change")
        return SeedNotes.of_project(tiny).head

    (tiny / "notes.md").write_text("no stage reads this")
    assert told().endswith("Measured over seeds 7, 8.")
    for name, old, new in (
        ("params.yaml", "entries: [tiny_lora]", "entries: [tiny_lora]\n  depth: 2"),
        ("make.py", "0.3 + seed", "0.4 + seed"),
    ):
        before = (tiny / name).read_text()
        (tiny / name).write_text(before.replace(old, new))
        assert told().endswith(other), name
        (tiny / name).write_text(before)
        assert told().endswith("Measured over seeds 7, 8."), name


def test_a_spread_of_other_code_is_not_lost(tiny: Path) -> None:
    spread = Spread(commit="c" * 40, pipeline="of other code", seeds=[], values={})
    write_spread(spread.with_run(3, {COMPARE: content(0.1)}), tiny)
    kept = (tiny / SEEDS).read_bytes()
    with pytest.raises(DataError, match=r"is of commit cccccccccc.* is not in git; commit it or delete it"):
        run_seeds(2, None, tiny)
    assert (tiny / SEEDS).read_bytes() == kept


def test_the_report_says_that_nothing_was_measured(tiny: Path) -> None:
    notes = SeedNotes.of_project(tiny)
    unknown = "How far another seed moves it was not measured (`mark seeds -n 5`)."
    assert notes.head == f"Seed of every gain: 7. {unknown}"
    assert notes.beside(Path(COMPARE), content(0.1)) == []
    (tiny / "dvc.lock").unlink()
    assert SeedNotes.of_project(tiny).head == f"Seed of every gain: not known. {unknown}"


def test_stages_of_different_seeds_are_told_apart() -> None:
    lock = lock_of(
        "stages: {train: {params: {params.yaml: {seed: 7}}}, eval: {params: {params.yaml: {seed: 8}}}, ingest: {}}"
    )
    assert seeds_of(lock) == {"train": 7, "eval": 8}


def test_one_process_at_a_time_and_a_folder_in_the_way(tiny: Path) -> None:
    (tiny / "tmp/seeds").mkdir(parents=True)
    with (
        FileLock(tiny / "tmp/seeds.lock"),
        pytest.raises(MarkError, match="`mark seeds` already runs in another"),
    ):
        run_seeds(2, None, tiny)
    with pytest.raises(DataError, match=r"tmp/seeds is in the way and no clone"):
        run_seeds(2, None, tiny)
    (tiny / "params.yaml").write_text("eval:\n  entries: [tiny_lora]\n")
    commit(tiny, "no seed")
    with pytest.raises(DataError, match=r"params\.yaml of .* has no seed"):
        run_seeds(2, None, tiny)


def test_no_seed_pays_for_other_questions(tiny: Path) -> None:
    (tiny / "params.yaml").write_text(
        (tiny / "params.yaml").read_text() + "data_prep: {llm: {enabled: true}}\n"
    )
    commit(tiny, "paid questions")
    with pytest.raises(GuardError, match=r"data_prep\.llm\.enabled"):
        run_seeds(2, None, tiny)
