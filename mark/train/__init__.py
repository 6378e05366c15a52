"""Fine-tuning with LoRA: the dry run and the run."""

from mark.train.inputs import TrainInputs
from mark.train.plan import Plan
from mark.train.run import TrainResult, plan, train

__all__ = ["Plan", "TrainInputs", "TrainResult", "plan", "train"]
