"""A random cross-encoder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def random_reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded random BERT with one output, two layers of width 32, over bytes."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from mark.models.random_weights import byte_tokenizer

    folder = tmp_path_factory.mktemp("reranker")
    tokenizer = byte_tokenizer("bert")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=512, num_labels=1, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(1)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
