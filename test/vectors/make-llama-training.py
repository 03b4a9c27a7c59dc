"""Loss, gradients and a few AdamW steps of tiny Llamas, as transformers and torch.optim compute them in float64.

    python test/vectors/make-llama-training.py

Needs torch and transformers (made with 2.13.0 and 5.18.0). Writes llama-training.json beside this file.
"""

import json
import pathlib

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_default_dtype(torch.float64)
vocabulary, sequence, steps = 12, 7, 4
optimiser_settings = dict(learningRate=0.01, weightDecay=0.1, beta1=0.9, beta2=0.95, epsilon=1e-8, clipNorm=0.5)


def model_of(tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        rope_theta=500.0,
        tie_word_embeddings=tied,
        initializer_range=0.4,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.normal_(parameter, 1, 0.2)
        parameter.data = parameter.data.float().double()  # what float32 can hold
    return model


def loss_of(model, tokens, targets):
    return F.cross_entropy(model(tokens).logits.view(-1, vocabulary), targets.view(-1), ignore_index=-100)


def numbers(tensor) -> list[float]:
    return [float(f"{value:.8g}") for value in tensor.detach().flatten().tolist()]


def gradient_case(model, batch: int) -> dict:
    torch.manual_seed(batch)
    tokens = torch.randint(0, vocabulary, (batch, sequence))
    targets = torch.randint(0, vocabulary, (batch, sequence))
    targets[0, 2] = targets[1, 5] = -100
    model.zero_grad()
    loss = loss_of(model, tokens, targets)
    loss.backward()
    return {
        "tokens": tokens.tolist(),
        "targets": targets.tolist(),
        "loss": loss.item(),
        "gradients": {name: numbers(parameter.grad) for name, parameter in model.named_parameters()},
    }


def training_case(model) -> dict:
    torch.manual_seed(7)
    excluded = ("norm.weight", "embed_tokens.weight", "lm_head.weight")
    decayed = [p for name, p in model.named_parameters() if not name.endswith(excluded)]
    others = [p for name, p in model.named_parameters() if name.endswith(excluded)]
    settings = optimiser_settings
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings["weightDecay"]}, {"params": others, "weight_decay": 0.0}],
        lr=settings["learningRate"],
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["epsilon"],
    )
    batches, losses, norms = [], [], []
    for _ in range(steps):
        tokens = torch.randint(0, vocabulary, (4, sequence + 1))
        model.zero_grad()
        loss = loss_of(model, tokens[:, :-1], tokens[:, 1:].reshape(-1))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clipNorm"])
        optimiser.step()
        batches.append(tokens.flatten().tolist())
        losses.append(loss.item())
        norms.append(norm.item())
    return {
        "batches": batches,
        "losses": losses,
        "gradientNorms": norms,
        "parameters": {name: numbers(parameter) for name, parameter in model.named_parameters()},
    }


def case(tied: bool) -> dict:
    model = model_of(tied)
    return {
        "config": json.loads(model.config.to_json_string()),
        "parameters": {
            name: {"shape": list(parameter.shape), "data": numbers(parameter)}
            for name, parameter in model.named_parameters()
        },
        # 14 and 28 rows: fewer and more than twice the vocabulary
        "gradients": [gradient_case(model, batch) for batch in (2, 4)],
        "training": training_case(model),
    }


vectors = {"optimiser": optimiser_settings, "untied": case(False), "tied": case(True)}
path = pathlib.Path(__file__).with_name("llama-training.json")
path.write_text(json.dumps(vectors, separators=(",", ":")) + "\n")
print(path, path.stat().st_size)
