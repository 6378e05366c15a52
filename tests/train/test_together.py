"""Several processes train what one trains: the same losses, adapter and record, written once."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import mark.train.run as train_run
import mark.train.together as together
import mark.train.workload as workload
from mark.commands.stage import launched
from mark.errors import ConfigError, GuardError, MarkError
from mark.train.checkpoints import mark_complete
from mark.train.collator import IGNORED, AnswerCollator
from mark.train.guard import check_guards
from mark.train.packing import PackedCollator
from mark.train.sampler import EpochSampler
from mark.train.shares import IDLE, RowsAndIdle, ShareSampler
from mark.train.trainer import Schedule
from tests.train.small import settings
from tests.train.together import ENTRY, TORCHRUN, TRAIN, TWO, alone, losses, project, record, run, variables

# Steps of 6, 6 and 1 rows an epoch: in the last one a process has nothing to do.
SECTION = settings(
    batch_size=2, gradient_accumulation_steps=3, epochs=2, evals_per_epoch=3, report_to=["tensorboard"]
)


@given(rows=st.integers(1, 60), group=st.integers(1, 12), size=st.integers(1, 5), processes=st.integers(1, 7))
def test_shares_hold_each_row_of_a_step_once_and_take_equally_many_passes(
    rows: int, group: int, size: int, processes: int
) -> None:
    order = EpochSampler([1 + row % 9 for row in range(rows)], group, seed=3, by_length=True)
    samplers = [ShareSampler(order, size, rank, processes) for rank in range(processes)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])}
    assert all(1 <= len(batch) <= size for share in shares for batch in share)

    section = settings(batch_size=size, gradient_accumulation_steps=group)
    schedule = Schedule.of(section, rows, processes)
    passes = math.ceil(math.ceil(group / processes) / size)  # of each process for a whole step
    expected = list(order)
    for number, start in enumerate(range(0, rows, group)):
        step = [batch for share in shares for batch in share[number * passes : (number + 1) * passes]]
        taken = sorted(row for batch in step for row in batch if row != IDLE)
        assert taken == sorted(expected[start : start + group])
    assert schedule.group == size * group
    assert schedule.micro_batch <= size
    assert schedule.accumulation * schedule.micro_batch * processes >= schedule.group


def test_the_schedule_of_a_run_does_not_depend_on_the_processes() -> None:
    section = settings(batch_size=4, gradient_accumulation_steps=2, epochs=2)
    plans = [Schedule.of(section, 20, processes) for processes in (1, 2, 3, 16)]
    assert {(p.group, p.steps, p.steps_per_epoch, p.evaluate_every) for p in plans} == {(8, 6, 3, 2)}
    # 8 rows a step: one process in 2 passes of 4; two of 4 each in 1; three of at most 3; sixteen of at most 1
    assert [(p.micro_batch, p.accumulation) for p in plans] == [(4, 2), (4, 1), (3, 1), (1, 1)]


def test_an_idle_row_has_no_answer() -> None:
    rows = RowsAndIdle([{"input_ids": [5, 6, 7, 8], "answer_start": 2}])  # type: ignore[arg-type]
    assert rows[0]["answer_start"] == 2
    for collator in (AnswerCollator(0), PackedCollator()):
        labels = collator([rows[IDLE]])["labels"]
        assert labels.numel() == 2 and bool((labels == IGNORED).all())


def test_rlhf_refuses_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from mark.config import Rlhf

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(GuardError, match="RLHF trains in one process"):
        check_guards(Rlhf.model_construct(dry_run=False), confirmed=True)


def test_a_launcher_that_is_no_program_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK_LAUNCH", "no-such-launcher --nproc_per_node 2")
    with pytest.raises(ConfigError, match="MARK_LAUNCH: 'no-such-launcher' is no program; allowed: torchrun"):
        launched("train")
    monkeypatch.setenv("RANK", "1")  # one of the processes that were launched
    assert not launched("train")


def test_one_process_has_no_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else accelerate would cut the adapter too, which is then saved in pieces."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with together.joined("0" * 64):
        assert "ACCELERATE_USE_FSDP" not in os.environ


def test_more_processes_than_gpus_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "3")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    told = pytest.raises(MarkError, match=r"4 processes were started on this machine and it shows 2 GPU")
    with told, together.joined("0" * 64):
        pass


def test_all_processes_multiply_in_one_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    together.check_alike(True)
    monkeypatch.setattr(together, "agreed", lambda _number: 1)  # the first one's answer
    together.check_alike(True)
    with pytest.raises(MarkError, match=r"set train\.precision to fp32 or bf16"):
        together.check_alike(False)


def test_no_process_takes_a_step_that_another_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the plan a slow machine measures fewer steps; with shards the others would wait for it."""
    fast = workload.Timing(tokens=10, forward_s=0.1, total_s=0.2)
    monkeypatch.setattr(workload, "smallest", lambda number: 0)  # some other process was slow
    work = workload.Workload.__new__(workload.Workload)  # touched by no step
    assert workload.typical_timing(work, Schedule.of(settings(), 4, 2), fast) is fast


def test_a_checkpoint_that_some_machine_does_not_see_whole_is_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3/optimizer.pt").write_bytes(b"state")
    mark_complete(tmp_path / "checkpoint-3")
    monkeypatch.setattr(train_run, "processes", lambda: 2)
    for others, told in ((1, None), (0, "do not see .*checkpoint-3 whole; start it again")):
        monkeypatch.setattr(train_run, "smallest", lambda number, others=others: min(number, others))
        if told is None:
            train_run._check_seen(tmp_path / "checkpoint-3")
            continue
        with pytest.raises(MarkError, match=told):
            train_run._check_seen(tmp_path / "checkpoint-3")
    (tmp_path / "checkpoint-3/optimizer.pt").unlink()
    monkeypatch.setattr(train_run, "smallest", lambda number: number)
    with pytest.raises(MarkError, match="do not see"):
        train_run._check_seen(tmp_path / "checkpoint-3")


def _same(one: Path, other: Path, near: float = 3e-6) -> None:
    """Equal to what rounding leaves; Adam lifts it, hence not 1e-5."""
    records = [record(entry) for entry in (one, other)]
    for name in ("train_loss", "val_loss"):
        assert records[1].pop(name) == pytest.approx(records[0].pop(name), abs=near)
    assert records[1] == records[0]
    assert [row[:2] for row in losses(other)] == [row[:2] for row in losses(one)]
    assert [row[2] for row in losses(other)] == pytest.approx([row[2] for row in losses(one)], abs=near)
    tensors = [load_file(entry / "adapter_model.safetensors") for entry in (one, other)]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        torch.testing.assert_close(tensors[1][name], tensor, rtol=1e-3 * near / 3e-6, atol=1e-5 * near / 3e-6)


def test_torchrun_with_two_processes_trains_what_one_trains(tiny_llama_dir: Path, tmp_path: Path) -> None:
    clone = project(tmp_path / "clone", tiny_llama_dir, SECTION)
    single = alone(clone, SECTION)
    done = run(clone, *TWO, *TRAIN)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("is trained") == 1  # the first process speaks, the other is silent
    assert done.stderr.count("train: 0/6 steps") == 1
    _same(single, clone / ENTRY)
    assert len(list((clone / "logs/lora_training").glob("events.*"))) == 1
    assert sorted(path.suffix for path in (clone / ".ckpt").iterdir()) == []
    assert (clone / "runs/plots/random_lora_small.json").is_file()


@pytest.mark.long
def test_shards_train_what_one_process_trains(tiny_llama_dir: Path, tmp_path: Path) -> None:
    clone = project(tmp_path / "clone", tiny_llama_dir, SECTION)
    single = alone(clone, SECTION)
    # Says how many numbers of the base this process holds, then trains as ever.
    (clone / "held.py").write_text(
        "import sys\n"
        "from mark.train.trainer import AnswerTrainer\n"
        "start = AnswerTrainer.__init__\n"
        "def told(self, model, *rest):\n"
        "    held = sum(getattr(p, 'to_local', lambda p=p: p)().numel() for n, p in model.named_parameters()"
        " if 'lora_' not in n)\n"
        "    sys.stdout.write(f'holds {held}\\n')\n"
        "    start(self, model, *rest)\n"
        "AnswerTrainer.__init__ = told\n"
        "from mark.cli import main\n"
        "sys.argv[:] = ['mark', 'train', *sys.argv[1:]]\n"
        "main()\n"
    )
    done = run(clone, *TWO, "held.py", *TRAIN[2:], ACCELERATE_USE_FSDP="true")
    assert done.returncode == 0, done.stderr[-3000:]
    whole = sum(t.numel() for t in load_file(clone / "models/base/random/model.safetensors").values())
    held = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("holds")]
    assert sum(held) == whole and max(held) < 0.6 * whole
    _same(single, clone / ENTRY)


def _kill_after(clone: Path, checkpoint: str, *command: str, **more: str) -> None:
    """Start, wait for a complete checkpoint, end all processes at once."""
    process = subprocess.Popen(
        list(command), cwd=clone, env=variables(clone, **more),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(clone.glob(f".ckpt/*/{checkpoint}/COMPLETE.json")):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    assert len(family) == 3  # the launcher and what it launched
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.long
@pytest.mark.parametrize("sharded", [False, True])
def test_a_killed_run_goes_on_with_as_many_processes_or_with_one(
    sharded: bool, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    more = {"ACCELERATE_USE_FSDP": "true"} if sharded else {}
    dropping = settings(
        batch_size=2, gradient_accumulation_steps=1, epochs=20, evals_per_epoch=1, lora={"lora_dropout": 0.2}
    )
    clone = project(tmp_path / "clone", tiny_llama_dir, dropping)
    assert run(clone, *TWO, *TRAIN, **more).returncode == 0
    whole = clone / "models/whole"
    shutil.move(clone / ENTRY, whole)
    _kill_after(clone, "checkpoint-21", *TWO, *TRAIN, **more)
    done = run(clone, *TWO, *TRAIN, **more)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("going on from step") == 1
    assert record(clone / ENTRY) == record(whole)
    assert losses(clone / ENTRY) == losses(whole)
    tensors = [load_file(entry / "adapter_model.safetensors") for entry in (whole, clone / ENTRY)]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])

    quiet = settings(batch_size=2, gradient_accumulation_steps=1, epochs=20, evals_per_epoch=1)
    (clone / "small.yaml").write_text(quiet.model_dump_json())
    _kill_after(clone, "checkpoint-21", *TWO, *TRAIN, **more)
    single = alone(clone, quiet)  # takes up the checkpoint of the two
    shutil.rmtree(clone / ".ckpt", ignore_errors=True)
    assert run(clone, *TWO, *TRAIN, **more).returncode == 0
    _same(single, clone / ENTRY, near=3e-5)  # 140 steps


@pytest.mark.long
def test_two_machines(tiny_llama_dir: Path, tmp_path: Path) -> None:
    clone = project(tmp_path / "clone", tiny_llama_dir, SECTION)
    single = alone(clone, SECTION)
    assert [code for code, _ in _two_machines(clone, clone)] == [0, 0]
    _same(single, clone / ENTRY)

    other = Path(shutil.copytree(clone, tmp_path / "other"))
    outcomes = _two_machines(clone, other)
    assert all(code != 0 for code, _ in outcomes)
    assert any("do not share the folder of checkpoints" in errors for _, errors in outcomes)

    (other / "data/train_sft.jsonl").write_text((clone / "data/val_sft.jsonl").read_text())
    outcomes = _two_machines(clone, other)
    assert any("the processes of this training differ in code, settings or data" in e for _, e in outcomes)


def _two_machines(first: Path, second: Path) -> list[tuple[int, str]]:
    """One process in each folder, as two machines would start them: exit codes and what was told."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = [
        subprocess.Popen(
            [*TORCHRUN, "--nnodes", "2", "--node_rank", str(number), "--nproc_per_node", "1",
             "--master_addr", "127.0.0.1", "--master_port", port, *TRAIN],
            cwd=folder, env=variables(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for number, folder in enumerate((first, second))
    ]  # fmt: skip
    errors = [process.communicate(timeout=300)[1] for process in started]
    return [(process.returncode, told) for process, told in zip(started, errors, strict=True)]


@pytest.mark.long
def test_accelerate_launch_and_the_stage_that_launches(tiny_llama_dir: Path, tmp_path: Path) -> None:
    clone = project(tmp_path / "clone", tiny_llama_dir, SECTION)
    single = alone(clone, SECTION)
    launch = (sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "2")
    for name in ("ddp", "fsdp2"):
        done = run(clone, *launch, "--config_file", f"conf/accelerate/{name}.yaml", *TRAIN)
        assert done.returncode == 0, done.stderr[-3000:]
        _same(single, clone / ENTRY)
        shutil.rmtree(clone / ENTRY)

    planned = run(clone, *TWO, "-m", "mark.train", "--config", "small.yaml")
    assert planned.stdout.count("Training plan (dry run") == 1
    assert "examples a step: 2 x 2 accumulated in each of 2 processes" in planned.stdout
    refused = run(clone, *TWO, "-m", "mark.train", "--confirm-run")
    assert "several processes cannot each run the DVC stage; give --config FILE" in refused.stderr

    launcher = f"{TWO[0]} -m torch.distributed.run --standalone --nproc_per_node 2"
    repro = run(clone, "dvc", "repro", "-s", "train", MARK_LAUNCH=launcher)
    assert repro.returncode == 0, repro.stderr[-3000:] + repro.stdout[-2000:]
    assert (clone / "models/random_lora/entry.json").is_file()
    assert (clone / "reports/timing_train.json").is_file()
