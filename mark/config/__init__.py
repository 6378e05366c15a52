"""The only reader of configuration.

Values live in conf/ (composed into params.yaml), never here: no field has a default.
"""

from __future__ import annotations

from mark.config.answering import AnswerServer
from mark.config.pipeline import (
    ChromaServer,
    Corpus,
    DataPrep,
    Eval,
    Ingest,
    Llm,
    Lora,
    Model,
    PgVector,
    RayCluster,
    Reranker,
    Retrieval,
    Train,
    WeightSource,
    Wheel,
)
from mark.config.reading import (
    SECTIONS,
    UNSHOWN,
    AnySection,
    Params,
    Paths,
    load_params,
    load_section,
    load_seed,
    load_value,
    project_params,
    read_params,
    validate,
)
from mark.config.rlhf import Feedback, Reward, RewardModel, Rlhf, Sampling
from mark.config.section import PARAMS, SETUP_MODE, Fraction, Section, setup_mode
from mark.config.serve import Registry, Serve

__all__ = [
    "PARAMS",
    "SECTIONS",
    "SETUP_MODE",
    "UNSHOWN",
    "AnswerServer",
    "AnySection",
    "ChromaServer",
    "Corpus",
    "DataPrep",
    "Eval",
    "Feedback",
    "Fraction",
    "Ingest",
    "Llm",
    "Lora",
    "Model",
    "Params",
    "Paths",
    "PgVector",
    "RayCluster",
    "Registry",
    "Reranker",
    "Retrieval",
    "Reward",
    "RewardModel",
    "Rlhf",
    "Sampling",
    "Section",
    "Serve",
    "Train",
    "WeightSource",
    "Wheel",
    "load_params",
    "load_section",
    "load_seed",
    "load_value",
    "project_params",
    "read_params",
    "setup_mode",
    "validate",
]
