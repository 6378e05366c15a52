"""The environment of a run: recorded beside its results, without a name or a time, and compared."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mark.errors import DataError
from mark.reproduce.environment import (
    Environment,
    environment_differences,
    package_differences,
    pinned_packages,
    present_environment,
    record_at,
    record_here,
    record_path,
    record_run,
)
from mark.reproduce.git import commit_of
from mark.reproduce.pipeline import lock_here
from tests.conftest import ROOT
from tests.reproduce.conftest import commit

THERE = Environment(
    python="3.11.7", system="Linux x86_64", libc="glibc 2.36", cpu="A", cpu_flags=["avx2", "avx512f"], threads=2,
    torch_cpu="AVX512", gpus=[], settings={}, packages={"torch": "2.13.0", "numpy": "2.4.6", "old": "1"},
)  # fmt: skip


def test_a_stage_leaves_a_record_of_its_own_outputs(tiny: Path) -> None:
    lock = lock_here(tiny)
    for stage, locked in lock.items():
        record = record_here(tiny, stage)
        assert record is not None and record.outs == locked.outs, stage
        assert record.environment.packages == {"numpy": version("numpy")}
    assert record_here(tiny, "nope") is None
    # It belongs to git, and no stage reads or writes it.
    head = commit_of(tiny, "HEAD")
    assert record_at(tiny, head, "eval@tiny_lora") == record_here(tiny, "eval@tiny_lora")
    assert "reports/runs" not in (tiny / "dvc.lock").read_text()


def test_a_record_names_neither_host_nor_user_nor_place(tiny: Path) -> None:
    text = "".join(path.read_text() for path in (tiny / "reports/runs").glob("*.json"))
    values = [
        v
        for path in (tiny / "reports/runs").glob("*.json")
        for v in json.loads(path.read_text())["environment"].values()
    ]
    assert len(values) > 20
    assert str(tiny) not in text and str(Path.home()) not in text
    assert socket.gethostname() not in text and f'"{getpass.getuser()}"' not in text


def test_a_stage_run_by_hand_leaves_none(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny / record_path("train")).unlink()
    monkeypatch.delenv("DVC_STAGE", raising=False)
    record_run(tiny)
    assert not (tiny / record_path("train")).exists()
    monkeypatch.setenv(
        "DVC_STAGE", "../elsewhere/dvc.yaml:train"
    )  # as DVC says it where it was called elsewhere
    record_run(tiny)
    assert (tiny / record_path("train")).is_file()


def test_a_pipeline_that_cannot_be_read_costs_the_record_alone(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tiny / record_path("train")).unlink()
    monkeypatch.setenv("DVC_STAGE", "train")
    (tiny / "dvc.yaml").write_text("stages: {train: {foreach: [1], do: {}}}")
    record_run(tiny)
    assert "what train computed on is not recorded: dvc.yaml: train: `foreach`" in caplog.text
    assert not (tiny / record_path("train")).exists()


def test_torch_is_recorded_where_a_model_is_read_though_nothing_had_to_be_computed(tiny: Path) -> None:
    code = "import sys; from pathlib import Path; from mark.reproduce.environment import record_run; "
    code += "record_run(Path(sys.argv[1]))"
    for stage in ("train", "eval@tiny_lora"):
        place = {**os.environ, "DVC_STAGE": stage, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code, str(tiny)], env=place, check=True)
    read, written = record_here(tiny, "eval@tiny_lora"), record_here(tiny, "train")
    assert read is not None and read.environment.torch_cpu is not None
    assert written is not None and written.environment.torch_cpu is None  # it has no model among its deps


def test_a_damaged_record_is_one_line(tiny: Path) -> None:
    (tiny / record_path("train")).write_text('{"stage": "train"}')
    with pytest.raises(DataError, match=r"train\.json is damaged \(outs: Field required\)"):
        record_here(tiny, "train")
    with pytest.raises(DataError, match=r":reports/runs/train\.json is damaged"):
        record_at(tiny, commit(tiny, "damage"), "train")


def test_equal_environments_do_not_differ() -> None:
    assert environment_differences(present_environment(), present_environment()) == []


def test_each_difference_is_a_line() -> None:
    here = THERE.model_copy(
        update={
            "python": "3.12.1", "cpu": "B", "cpu_flags": ["amx_bf16", "avx2"], "threads": 8, "gpus": ["H100 with CUDA 12.8"],
            "settings": {"MKL_CBWR": "AVX2"}, "packages": {"torch": "2.13.1", "numpy": "2.4.6", "new": "3"},
        }
    )  # fmt: skip
    assert environment_differences(THERE, here) == [
        "Python: 3.11.7 there, 3.12.1 here",
        "CPU: A there, B here",
        "threads: 2 there, 8 here",
        "CPU instructions: avx512f only there; amx_bf16 only here",
        "GPU: H100 with CUDA 12.8 only here",
        "MKL_CBWR: none there, AVX2 here",
        "package new: none there, 3 here",
        "package old: 1 there, none here",
        "package torch: 2.13.0 there, 2.13.1 here",
    ]


def test_threads_and_settings_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.setenv("A_TOKEN", "secret")
    found = present_environment()
    assert found.threads == 3 and found.torch_cpu is None
    assert found.settings["ATEN_CPU_CAPABILITY"] == "default" and "secret" not in found.model_dump_json()


def test_pins_are_compared_by_their_names_as_the_registry_has_them() -> None:
    pins = pinned_packages("# a comment\nPyYAML==6.0\nruamel.yaml==1 ; python_version >= '3.11'\nsklearn\n")
    assert pins == {"pyyaml": "6.0", "ruamel-yaml": "1"}
    assert package_differences(pins, {"pyyaml": "6.0", "ruamel-yaml": "2"}) == [
        "package ruamel-yaml: 1 there, 2 here"
    ]
