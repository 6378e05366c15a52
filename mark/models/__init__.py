"""Weights: where they come from, how they are checked and loaded, which parts LoRA trains."""
