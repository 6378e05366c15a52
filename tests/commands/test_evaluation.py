"""`mark report`: beside each gain that it prints stand the run's seed and what other seeds gave."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from mark.commands.evaluation import last_report
from mark.commands.rlhf import last_rlhf_report
from mark.errors import DataError
from mark.files import read_json
from mark.reproduce.git import commit_of
from mark.reproduce.pipeline import lock_here
from mark.reproduce.seeds import SEEDS, Spread, key_at, numbers_of, seeds_of, write_spread
from tests.conftest import ROOT
from tests.reproduce.conftest import call, commit

NOT_MEASURED = "How far another seed moves it was not measured (`mark seeds -n 5`)."


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed metrics of this project, with its settings, in a repository without code."""
    root = tmp_path_factory.mktemp("report") / "project"
    root.mkdir()
    for name in ("dvc.yaml", "dvc.lock", "params.yaml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "metrics", root / "metrics")
    (root / SEEDS).unlink(missing_ok=True)
    call(root, "git", "init", "-q")
    commit(root, "a run")
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A copy of it to work in."""
    return Path(shutil.copytree(template, tmp_path / "project"))


def seed(root: Path) -> int:
    """Of the committed run."""
    (found,) = set(seeds_of(lock_here(root)).values())
    return found


def plant(root: Path) -> None:
    """A spread of three seeds: the committed metrics, and each number one and two points higher."""
    head, first = commit_of(root, "HEAD"), seed(root)
    values = {
        f"metrics/{path.name}": {
            pointer: [value, value + 0.01, value + 0.02]
            for pointer, value in numbers_of(read_json(path)).items()
        }
        for path in (root / "metrics").glob("*.json")
    }
    seeds = [first, first + 1, first + 2]
    write_spread(Spread(commit=head, pipeline=key_at(root, head), seeds=seeds, values=values), root)


def printed_gains(text: str) -> list[str]:
    """Every gain that a report prints: what has a sign and an interval."""
    return sorted(re.findall(r"([+-]\d+\.\d)\s+\([+-]\d", text))


def spread_rows(text: str) -> list[list[str]]:
    """The cells of each row of seeds: this run, mean, deviation, lowest, highest, number of seeds."""
    return [line.split()[-6:] for line in text.splitlines() if re.search(r" 1\.0 .* 3$", line)]


@pytest.mark.parametrize("full", [False, True])
def test_each_gain_stands_beside_its_seed_and_its_spread(project: Path, full: bool) -> None:
    plant(project)
    text = last_report(project, full)
    gains, rows = printed_gains(text), spread_rows(text)
    assert len(gains) >= 5 and sorted(row[0] for row in rows) == gains
    for value, mean, _, lowest, highest, seeds in rows:
        # v, v + 1 and v + 2 points: their mean is v + 1, the deviation 1.
        assert lowest == value and seeds == "3"
        assert float(mean) == pytest.approx(float(value) + 1, abs=0.051)
        assert float(highest) == pytest.approx(float(value) + 2, abs=0.051)
    first = seed(project)
    assert f" seed {first} " in text
    told = f"Seed of every gain: {first}. Measured over seeds {first}, {first + 1}, {first + 2}."
    assert text.splitlines()[-1] == told


def test_the_report_of_rlhf_has_them_too(project: Path) -> None:
    plant(project)
    text = last_rlhf_report(project)
    assert sorted(row[0] for row in spread_rows(text)) == printed_gains(text)
    assert "over sft continued: token f1" in text


@pytest.mark.parametrize("full", [False, True])
def test_one_line_says_that_no_spread_was_run(project: Path, full: bool) -> None:
    text = last_report(project, full)
    assert text.splitlines()[-1] == f"Seed of every gain: {seed(project)}. {NOT_MEASURED}"
    assert text.count("Seed of every gain") == 1 and spread_rows(text) == []


def test_a_damaged_spread_is_one_line(project: Path) -> None:
    (project / SEEDS).write_text('{"commit": 3}')
    with pytest.raises(DataError, match=r"seeds\.json is damaged \(commit: "):
        last_report(project)
