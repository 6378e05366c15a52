"""`mark ablation` over commits of a small repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mark.commands.ablation import run_ablation
from mark.errors import ConfigError, DataError
from mark.evaluation.calibration import Calibrations
from mark.files import write_json, write_jsonl
from mark.records import Prediction
from tests.conftest import ROOT

FILE = Path("reports/eval/transformer_lora/development.jsonl")


def predicted(
    ident: str, f1: float, style: str = "short", refused: bool = False, p: float = 0.2
) -> Prediction:
    kind = "unanswerable" if ident.startswith("u") else "answerable"
    return Prediction(
        example_id=ident, cell="tuned_retrieval", question="?", kind=kind, style=style, rule_id="handwritten",  # type: ignore[arg-type]
        document="lease" if kind == "answerable" else None, section=ident if kind == "answerable" else None,
        contexts=[], answers=[], prediction="", raw_prediction="", unrefused_prediction="", refused=refused,
        refusal_probability=p, quote=None, quote_chunk=None, exact_match=0.0, token_f1=0.0 if refused else f1,
        rouge_l=0.0, bleu=0.0, f1_if_answered=f1, source_in_contexts=None,
    )  # fmt: skip


FIRST = [predicted("a", 0.2), predicted("b", 0.4, "full"), predicted("c", 0.6), predicted("u", 0.0, p=0.1)]
SECOND = [
    predicted("a", 0.4), predicted("b", 0.6, "full"), predicted("c", 0.8, refused=True),
    predicted("u", 0.0, refused=True, p=0.9),
]  # fmt: skip

EDITED = [SECOND[0], SECOND[1].model_copy(update={"answers": ["another gold"]}), *SECOND[2:]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arms")
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")

    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)

    git("init", "-q")
    for name, rows in (("first", FIRST), ("second", SECOND), ("other", SECOND[:2]), ("edited", EDITED)):
        write_jsonl(folder / FILE, rows)
        git("add", "-A")
        git("commit", "-qm", name)
        git("tag", name)
    subprocess.run(["dvc", "init", "-q"], cwd=folder, check=True, capture_output=True)
    write_jsonl(folder / FILE, SECOND)
    found = Calibrations(entry="e", base="b", question_ids=[], thresholds={}, answers_in="bfloat16")
    write_json(folder / FILE.with_name("calibration.json"), found.model_dump(mode="json"))
    return folder


def test_arms_are_paired_with_the_first(root: Path) -> None:
    head, _, first, second, here, _, note, apart = run_ablation(
        ["first", "second", "workspace"], "tuned_retrieval", None, root
    ).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:5]] == [
        "arm",
        "questions",
        "F1 if answered",
        "against the first",
    ]
    one, two = (dict(zip(head.split("|"), line.split("|"), strict=True)) for line in (first, second))
    assert one[" F1 if answered "].startswith(" 40.0 (") and one[" against the first "] == " - "
    assert (
        two[" F1 if answered "].startswith(" 60.0 (")
        and two[" against the first "] == " +20.0 (+20.0 to +20.0) "
    )
    assert two[" short "].startswith(" 60.0 (") and two[" full "].startswith(" 60.0 (")
    assert (one[" refusal recall "], two[" refusal recall "]) == (" 0 % ", " 100 % ")
    assert (one[" false refusals "], two[" false refusals "]) == (" 0 % ", " 33 % ")
    assert (one[" refusal AUC "], two[" refusal AUC "]) == (" 0.00 ", " 1.00 ")
    assert here.split("|")[2:] == second.split("|")[2:]
    assert "in sample" in note
    assert apart == (
        "With care: these answers were not given by one engine (first by local, second by local, workspace by "
        "local in bfloat16)."
    )


def test_an_output_that_the_cache_lacks(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")

    def run(*words: str) -> None:
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)

    write_jsonl(tmp_path / FILE, FIRST)
    run("git", "init", "-q")
    run("dvc", "init", "-q")
    run("dvc", "add", "-q", str(FILE.parent))
    run("git", "add", "-A")
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "arm")
    assert "| HEAD | 4 |" in run_ablation(["HEAD"], "tuned_retrieval", None, tmp_path)
    shutil.rmtree(tmp_path / ".dvc/cache")
    with pytest.raises(DataError, match=r"HEAD: cannot read .*`dvc pull` fetches"):
        run_ablation(["HEAD"], "tuned_retrieval", None, tmp_path)


def test_what_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="other answered other development questions than first"):
        run_ablation(["first", "other"], "tuned_retrieval", None, root)
    with pytest.raises(DataError, match="edited answered other development questions than first"):
        run_ablation(["first", "edited"], "tuned_retrieval", None, root)
    with pytest.raises(DataError, match=r"no-such: cannot read reports/eval.*`dvc exp list`"):
        run_ablation(["no-such"], "tuned_retrieval", None, root)
    with pytest.raises(
        DataError, match="no cell 'oracle' among the development answers; there are tuned_retrieval"
    ):
        run_ablation(["first"], "oracle", None, root)
    with pytest.raises(ConfigError, match="name at least one experiment"):
        run_ablation([], "tuned_retrieval", None, root)
