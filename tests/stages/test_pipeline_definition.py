"""dvc.yaml, the stages and the library agree on what is read."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
READERS = {"load_section", "load_value", "load_seed"}


def _reads(stage: str) -> set[str]:
    """The params that a stage's file reads: `load_section(X, "train")`, `load_value("train", "key")`."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / f"stages/{stage}.py").read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in READERS):
            continue
        texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        found.add("seed" if node.func.id == "load_seed" else ".".join(texts))
    return found


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_stage_reads_exactly_what_it_declares(stage: str) -> None:
    assert _reads(stage) == set(PIPELINE[stage]["params"])


def test_only_stages_and_commands_read_params() -> None:
    # No stage calls these: they stand behind `mark eval --dataset`, `mark feedback` and `mark serve`.
    behind_commands = {"mark/evaluation/dataset.py", "mark/pipeline/feedback.py", "mark/rlhf/review.py"}
    allowed = {"mark/cli.py", *behind_commands}
    for path in sorted((ROOT / "mark").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name in allowed or name.startswith(("mark/commands/", "mark/config/", "mark/serve/")):
            continue
        calls = set(
            re.findall(r"\b(load_section|load_value|load_seed|load_params|read_params)\(", path.read_text())
        )
        assert not calls, f"{name} reads params.yaml by {calls}"


# Types and texts of messages: what a stage computes does not depend on them (its params are tracked by value).
NO_RESULT = ("mark/__init__.py", "mark/__main__.py", "mark/config/", "mark/errors.py", "mark/commands/")


def _module_file(module: str) -> Path | None:
    path = ROOT / Path(*module.split("."))
    found = [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()]
    return found[0] if found else None


def _imported(path: Path) -> set[str]:
    """Modules that a file imports, at its top or later, but for types; or names in a table of lazy imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and path.name == "__init__.py":
            found.add(f"{path.parent.relative_to(ROOT).as_posix().replace('/', '.')}.{node.value}")
    return {name for name in found if name.startswith("mark")}


def _reached(stage: str) -> set[str]:
    """Files of the library that a stage imports, directly or through others."""
    waiting, seen = [f"stages.{stage}"], set()
    while waiting:
        file = _module_file(waiting.pop())
        if file is None or file in seen or file.relative_to(ROOT).as_posix().startswith(NO_RESULT):
            continue
        seen.add(file)
        waiting += _imported(file)
    return {file.relative_to(ROOT).as_posix() for file in seen}


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_stage_depends_on_all_the_code_that_it_reaches(stage: str) -> None:
    deps = tuple(PIPELINE[stage]["deps"])
    reached = _reached(stage)
    assert len(reached) > 3
    missing = {name for name in reached if not any(name == dep or name.startswith(f"{dep}/") for dep in deps)}
    assert missing == set()
    assert "requirements.lock" in deps


def test_stage_files_are_thin() -> None:
    for path in sorted((ROOT / "stages").glob("*.py")):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40, path


def test_every_cached_out_is_ignored_by_git_and_every_metric_is_not() -> None:
    outs, kept = [], []
    for stage in PIPELINE.values():
        outs += stage.get("outs", [])
        for item in [*stage.get("metrics", []), *stage.get("plots", [])]:
            path, options = next(iter(item.items())) if isinstance(item, dict) else (item, {})
            (kept if options.get("cache") is False else outs).append(path)
    names = {"${model.name}": "transformer", "${item.entry}": "transformer_lora"}

    def ignored(path: str) -> bool:
        for key, value in names.items():
            path = path.replace(key, value)
        return subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0

    assert [path for path in outs if not ignored(path)] == []
    assert [path for path in kept if ignored(path)] == []


def test_lock_pins_public_versions_only() -> None:
    locks = ("requirements.lock", "requirements-extras.lock")
    for line in "".join((ROOT / name).read_text(encoding="utf-8") for name in locks).splitlines():
        pin, _, marker = line.partition(" ; ")
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", pin), line
        assert re.fullmatch(r"[a-z_0-9=\" ]*", marker), line  # for which machines


def test_no_file_of_the_project_names_a_place_of_its_making() -> None:
    names = ["/" + "work/", "pypi" + ".org", "files.python" + "hosted", "../" + "shared"]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".toml", ".json", ".lock", ""}:
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not [n for n in names if n in text], Path(name)
