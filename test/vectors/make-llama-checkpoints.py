"""Tiny Llama checkpoints as transformers writes them, with the log-probabilities that it computes from them.

    python test/vectors/make-llama-checkpoints.py

Needs torch and transformers (made with 2.13.0 and 5.18.0). Writes folders llama-<dtype>-<head>[-sharded]/ beside
this file and llama-checkpoints.json with, for each folder, token ids and the log-probability of each given those
before it, computed in float64 from the stored weights.
"""

import json
import pathlib
import shutil

import torch
from transformers import LlamaConfig, LlamaForCausalLM

here = pathlib.Path(__file__).parent
variants = [
    ("llama-f32-untied", torch.float32, False, None),
    ("llama-f32-tied", torch.float32, True, None),
    ("llama-bf16-untied", torch.bfloat16, False, None),
    ("llama-bf16-tied", torch.bfloat16, True, None),
    ("llama-bf16-untied-sharded", torch.bfloat16, False, "2KB"),
]


def make(name: str, dtype: torch.dtype, tied: bool, shard: str | None) -> dict:
    torch.manual_seed(len(name))
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        rms_norm_eps=1e-5,
        rope_theta=500.0,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=0,
        # Wide enough that attention and positions matter to the outcome.
        initializer_range=0.4,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
    model = model.to(dtype)
    folder = here / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    # Read back, because a model cast to bfloat16 and then widened keeps its rotary frequencies rounded.
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokens = torch.randint(0, config.vocab_size, (1, 24))
    with torch.no_grad():
        logits = model(tokens).logits
    logprobs = logits.log_softmax(-1)[0, :-1].gather(-1, tokens[0, 1:, None])[:, 0]
    return {
        "folder": name,
        "tokens": tokens[0].tolist(),
        "logprobs": [None] + [round(value, 9) for value in logprobs.tolist()],
        "nextLogits": [round(value, 9) for value in logits[0, -1].tolist()],
    }


cases = [make(*variant) for variant in variants]
lines = ",\n".join(json.dumps(case) for case in cases)
(here / "llama-checkpoints.json").write_text(f"[\n{lines}\n]\n")
