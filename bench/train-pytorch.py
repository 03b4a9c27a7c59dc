"""PyTorch's side of the training bench: the same Llama, written plainly, at its best.

    python bench/train-pytorch.py MODEL_JSON eager|compile THREADS

Fused AdamW, scaled_dot_product_attention with is_causal and enable_gqa, rms_norm, gradients set to None; `compile`
passes the model through torch.compile. Is asked in lines on stdin (`steps N`, `stop`) and answers in lines of JSON.
"""

import json
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

model_json, mode, threads = sys.argv[1:4]
shape = json.loads(model_json)
torch.set_num_threads(int(threads))
torch.manual_seed(0)
batch, sequence = shape["batchSize"], shape["sequenceLength"]
vocabulary, hidden, intermediate = shape["vocabularySize"], shape["hiddenSize"], shape["intermediateSize"]
heads, key_heads, head_size = shape["attentionHeads"], shape["keyValueHeads"], shape["headSize"]
epsilon, theta = shape["rmsNormEpsilon"], shape["ropeTheta"]


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))

    def forward(self, x):
        return F.rms_norm(x, (hidden,), self.weight, epsilon)


def rotate(x, cosine, sine):
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_norm, self.post_norm = Norm(), Norm()
        self.q, self.o = linear(hidden, heads * head_size), linear(heads * head_size, hidden)
        self.k, self.v = linear(hidden, key_heads * head_size), linear(hidden, key_heads * head_size)
        self.gate, self.up = linear(hidden, intermediate), linear(hidden, intermediate)
        self.down = linear(intermediate, hidden)

    def forward(self, x, cosine, sine):
        y = self.input_norm(x)
        q = rotate(self.q(y).view(batch, sequence, heads, head_size).transpose(1, 2), cosine, sine)
        k = rotate(self.k(y).view(batch, sequence, key_heads, head_size).transpose(1, 2), cosine, sine)
        v = self.v(y).view(batch, sequence, key_heads, head_size).transpose(1, 2)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != key_heads)
        x = x + self.o(attended.transpose(1, 2).reshape(batch, sequence, heads * head_size))
        y = self.post_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.layers = nn.ModuleList(Layer() for _ in range(shape["layers"]))
        self.norm, self.head = Norm(), linear(hidden, vocabulary)
        frequencies = theta ** (-torch.arange(0, head_size, 2) / head_size)
        angles = torch.outer(torch.arange(sequence).float(), frequencies).repeat(1, 2)
        self.register_buffer("cosine", angles.cos())
        self.register_buffer("sine", angles.sin())

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.cosine, self.sine)
        return F.cross_entropy(self.head(self.norm(x)).view(-1, vocabulary), targets.reshape(-1))


model = Llama()
for parameter in model.parameters():
    if parameter.ndim == 2:
        nn.init.normal_(parameter, 0, 0.02)
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
run = torch.compile(model) if mode == "compile" else model


def step() -> tuple[float, float]:
    start = time.perf_counter()
    tokens = torch.randint(0, vocabulary, (batch, sequence + 1))
    loss = run(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return (time.perf_counter() - start) * 1000, loss.item()


def answer(value: dict) -> None:
    print(json.dumps(value), flush=True)


first = step()[0]
answer({"compileMs": first, "version": torch.__version__})
for line in sys.stdin:
    command, *count = line.split()
    if command != "steps":
        break
    results = [step() for _ in range(int(count[0]))]
    answer({"milliseconds": [ms for ms, _ in results], "loss": results[-1][1]})
answer({"peakRssBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
