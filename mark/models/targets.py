"""Which linear layers LoRA trains, by architecture."""

from __future__ import annotations

from mark.errors import ModelError

_LLAMA_LIKE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# Mamba: `out_proj` and `conv1d` raise in peft, and `dt_proj` is bypassed by the scan, so that its
# adapter never gets a gradient.
_TARGETS: dict[str, list[str]] = {
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "mixtral": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
    "gemma": _LLAMA_LIKE,
    "gemma2": _LLAMA_LIKE,
    "gemma3_text": _LLAMA_LIKE,
    "smollm3": _LLAMA_LIKE,
    "olmo2": _LLAMA_LIKE,
    "granite": _LLAMA_LIKE,
    "phi": ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    "gpt_neox": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "opt": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
    "bloom": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    "mamba": ["in_proj", "x_proj"],
    "mamba2": ["in_proj"],
}


def lora_targets(model_type: str) -> list[str]:
    """Names of the modules that get an adapter.

    Args:
        model_type: `config.model_type` of the base model.

    Returns:
        Module name suffixes for peft's `target_modules`.

    Raises:
        ModelError: The architecture is not in the table.
    """
    if model_type not in _TARGETS:
        known = ", ".join(sorted(_TARGETS))
        raise ModelError(
            f"no LoRA targets are known for model type {model_type!r} (known: {known}); "
            "name them in train.lora.target_modules"
        )
    return list(_TARGETS[model_type])
