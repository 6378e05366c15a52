"""What a run computed on: recorded in reports/runs, so that a rerun can name what differs.

No time, host name, user or path is recorded: equal environments give equal records. reports/runs belongs to
git and is neither out nor dep of a stage.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mark.config import PARAMS
from mark.errors import DataError
from mark.files import MODELS, REPORTS, read_json, write_json
from mark.reproduce.git import file_at
from mark.reproduce.pipeline import DVC_YAML, Stage, dvc_hash, stages_of

log = logging.getLogger(__name__)

RUNS = REPORTS / "runs"
LOCK_FILE = Path("requirements.lock")
DVC_STAGE = "DVC_STAGE"  # DVC names the stage that it runs
# Variables that change how numbers are computed; no others are looked at.
SETTINGS = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "DNNL_MAX_CPU_ISA", "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS", "NVIDIA_TF32_OVERRIDE", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip
_FLAGS = re.compile(r"(avx|amx|sve|asimd)\w*|fma4?|f16c|bf16|i8mm|sme(?!p)\w*")
_LABELS = {
    "python": "Python", "system": "system", "libc": "C library", "cpu": "CPU", "threads": "threads",
    "torch_cpu": "torch's CPU kernels",
}  # fmt: skip


class Environment(BaseModel):
    """What may change the bytes of a result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    python: str
    system: str  # e.g. "Linux x86_64"
    libc: str
    cpu: str
    cpu_flags: list[str]  # instructions that change how numbers are computed
    threads: int  # that the computation used
    torch_cpu: str | None  # instructions that torch's kernels use; None where torch was not loaded
    gpus: list[str]  # with the CUDA version
    settings: dict[str, str]  # those of SETTINGS that are set
    packages: dict[str, str]  # of requirements.lock; a missing one is left out


class RunRecord(BaseModel):
    """The environment of a stage's last run, and DVC's hash of each out that it wrote."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    stage: str  # as DVC addresses it
    outs: dict[str, str]
    environment: Environment


def present_environment(root: Path = Path()) -> Environment:
    """Of this process; torch is asked where it is loaded already.

    Args:
        root: Holds requirements.lock.
    """
    torch = sys.modules.get("torch")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return Environment(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        libc=" ".join(platform.libc_ver()).strip(),
        cpu=_cpu_facts("model name") or platform.processor() or platform.machine(),
        cpu_flags=sorted(f for f in _cpu_facts("flags", "Features").split() if _FLAGS.fullmatch(f)),
        threads=torch.get_num_threads() if torch else int(threads) if threads.isdigit() else _cores(),
        torch_cpu=torch.backends.cpu.get_cpu_capability() if torch else None,
        gpus=list(_gpus(torch)) if torch else [],
        settings={name: os.environ[name] for name in SETTINGS if name in os.environ},
        packages=_packages(root / LOCK_FILE),
    )


def record_run(root: Path = Path()) -> None:
    """Write the record of the stage that DVC runs at this moment; nothing where DVC runs none.

    A pipeline that cannot be read here costs the record, not the stage's work.

    Args:
        root: The project's root.
    """
    stage = os.environ.get(DVC_STAGE)
    if stage is None:
        return
    stage = stage.rpartition(":")[2]  # DVC puts the way to dvc.yaml before it where it was called elsewhere
    try:
        declared = _declared(stage, root)
    except (DataError, FileNotFoundError) as fault:
        log.warning("what %s computed on is not recorded: %s", stage, fault)
        return
    if any(Path(dep).is_relative_to(MODELS) for dep in declared.deps):
        import torch  # noqa: F401  # else a run that found all its work done would have another record
    outs = {out: dvc_hash(root / out) for out in declared.outs if (root / out).exists()}
    record = RunRecord(stage=stage, outs=outs, environment=present_environment(root))
    write_json(root / record_path(stage), record.model_dump())


def record_path(stage: str) -> Path:
    """Where a stage's record lies, below the root."""
    return RUNS / f"{stage.replace('@', '_')}.json"


def record_here(root: Path, stage: str) -> RunRecord | None:
    """A stage's record in the workspace, None where there is none.

    Raises:
        DataError: It is damaged.
    """
    path = root / record_path(stage)
    return _record(read_json(path), str(path)) if path.is_file() else None


def record_at(root: Path, commit: str, stage: str) -> RunRecord | None:
    """A stage's record in a commit, None where there is none.

    Raises:
        DataError: It is damaged.
    """
    path = record_path(stage).as_posix()
    content = file_at(root, commit, path)
    return None if content is None else _record(content, f"{commit[:10]}:{path}")


def pinned_packages(text: str) -> dict[str, str]:
    """Name -> version of a requirements.lock."""
    pins = [line.partition(" ;")[0].strip().partition("==") for line in text.splitlines()]
    return {_plain(name): version for name, _, version in pins if version and not name.startswith("#")}


def installed_packages(named: Collection[str] | None = None) -> dict[str, str]:
    """Name -> version of what is installed here.

    Args:
        named: These alone, as `pinned_packages` names them; None = everything.
    """
    installed = {_plain(d.name): d.version for d in importlib.metadata.distributions() if d.name}
    return {name: installed[name] for name in sorted(installed) if named is None or name in named}


def environment_differences(there: Environment, here: Environment) -> list[str]:
    """What differs between two runs, a line each; nothing where they are equal.

    Args:
        there: Of the original.
        here: Of the rerun.
    """
    lines = []
    for field, label in _LABELS.items():
        old, new = getattr(there, field), getattr(here, field)
        if old != new:
            lines.append(f"{label}: {_told(old)} there, {_told(new)} here")
    for label, old_set, new_set in (
        ("CPU instructions", set(there.cpu_flags), set(here.cpu_flags)),
        ("GPU", set(there.gpus), set(here.gpus)),
    ):
        if old_set != new_set:
            parts = ((old_set - new_set, "only there"), (new_set - old_set, "only here"))
            lines.append(f"{label}: " + "; ".join(f"{', '.join(sorted(s))} {w}" for s, w in parts if s))
    return lines + _changed(there.settings, here.settings, "") + package_differences(there, here.packages)


def package_differences(there: Environment | Mapping[str, str], packages: Mapping[str, str]) -> list[str]:
    """Packages of another version, or that only one side has, a line each.

    Args:
        there: The original's environment, or what a requirements.lock pins.
        packages: Of the rerun.
    """
    old = there.packages if isinstance(there, Environment) else there
    return _changed(old, packages, "package ")


def _changed(old: Mapping[str, str], new: Mapping[str, str], label: str) -> list[str]:
    return [
        f"{label}{name}: {_told(old.get(name))} there, {_told(new.get(name))} here"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _declared(name: str, root: Path) -> Stage:
    """A stage of the workspace's dvc.yaml."""
    stages = stages_of(*[(root / file).read_text(encoding="utf-8") for file in (DVC_YAML, PARAMS)])
    found = [stage for stage in stages if stage.name == name]
    if not found:
        raise DataError(f"{DVC_YAML} has no such stage")
    return found[0]


def _told(value: object) -> str:
    return "none" if value is None or value == "" else str(value)


def _record(content: object, name: str) -> RunRecord:
    try:
        if isinstance(content, bytes):
            return RunRecord.model_validate_json(content)
        return RunRecord.model_validate(content)
    except ValidationError as fault:
        first = fault.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "content"
        raise DataError(f"{name} is damaged ({key}: {first['msg']}); bring it back with git") from None


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_facts(*names: str) -> str:
    """The first processor's value of a key of /proc/cpuinfo; "" where the system has no such file."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in names:
            return value.strip()
    return ""


def _gpus(torch: object) -> Iterator[str]:
    """Of a loaded torch."""
    cuda, version = torch.cuda, torch.version  # type: ignore[attr-defined]
    if cuda.is_available():
        for index in range(cuda.device_count()):
            yield f"{cuda.get_device_name(index)} with CUDA {version.cuda}"


def _packages(lock: Path) -> dict[str, str]:
    """Installed versions of what a requirements.lock names; of everything where there is none."""
    return installed_packages(pinned_packages(lock.read_text(encoding="utf-8")) if lock.is_file() else None)


def _plain(name: str) -> str:
    """A package's name as the registry compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
