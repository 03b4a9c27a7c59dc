"""A few steps of Muon on matrices, in float64, by the formulas of Jordan's post with Moonlight's scale.

    python test/vectors/muon.py

Needs torch (made with 2.13.0). The orthogonalisation is checked against torch.optim.Muon, which computes it in
bfloat16, so only loosely. Writes muon.json beside this file.
"""

import json
import pathlib

import torch

settings = dict(learningRate=0.05, weightDecay=0.1, muonMomentum=0.95)
a, b, c = 3.4445, -4.775, 2.0315
steps = 4


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    x = matrix / (matrix.norm() + 1e-7)
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def numbers(tensor: torch.Tensor) -> list[float]:
    return [float(f"{value:.8g}") for value in tensor.detach().flatten().tolist()]


def case(rows: int, columns: int) -> dict:
    torch.manual_seed(rows * 100 + columns)
    start = torch.randn(rows, columns).double()
    gradients = [torch.randn(rows, columns).double() for _ in range(steps)]
    rate, decay, mu = settings["learningRate"], settings["weightDecay"], settings["muonMomentum"]
    reference = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.Muon(
        [reference], lr=rate, weight_decay=decay, momentum=mu, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    parameter, momentum = start.clone(), torch.zeros_like(start)
    after = []
    for gradient in gradients:
        momentum = mu * momentum + gradient
        direction = newton_schulz(gradient + mu * momentum)
        parameter = parameter * (1 - rate * decay) - rate * 0.2 * max(rows, columns) ** 0.5 * direction
        after.append(numbers(parameter))
        reference.grad = gradient.clone()
        optimiser.step()
        error = (reference - parameter).abs().max().item()
        assert error < 0.02, error
    return {
        "rows": rows,
        "columns": columns,
        "start": numbers(start),
        "gradients": [numbers(gradient) for gradient in gradients],
        "parametersAfter": after,
    }


vectors = {"settings": settings, "cases": [case(6, 6), case(5, 9), case(9, 4)]}
path = pathlib.Path(__file__).with_name("muon.json")
path.write_text(json.dumps(vectors, separators=(",", ":")) + "\n")
print(path, path.stat().st_size)
