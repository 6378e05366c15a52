"""train_sft, val_sft, chunks, models/base -> models/<base>_lora, plots/train."""

from __future__ import annotations

from mark.commands.stage import launched, run_stage
from mark.config import Paths, Train, load_section, load_seed, load_value
from mark.files import MODELS
from mark.train import TrainInputs, train


def main() -> None:
    """Fine-tune the base model; a guarded configuration ends with the guard's sentence."""
    if launched("train"):
        return
    name = str(load_value("model", "name"))
    inputs = TrainInputs.of_project(base=name, paths=load_section(Paths, "paths"))
    train(inputs, load_section(Train, "train"), load_seed(), MODELS / f"{name}_lora", confirmed=True)


if __name__ == "__main__":
    run_stage("train", main)
