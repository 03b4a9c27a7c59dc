"""Writes outer_nesterov.json: torch.optim.SGD with Nesterov momentum over given gradients, the outer step of DiLoCo.

Run where PyTorch is installed: python test/vectors/outer_nesterov.py
"""
import json
import pathlib
import torch

torch.manual_seed(1)
start = torch.randn(6)
gradients = [torch.randn(6) * 0.1 for _ in range(5)]
cases = []
for rate, momentum in [(0.7, 0.9), (0.4, 0.3), (1.0, 0.0)]:
    parameter = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.SGD([parameter], lr=rate, momentum=momentum, nesterov=momentum > 0)
    steps = []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimiser.step()
        steps.append(parameter.detach().tolist())
    cases.append({"outerLearningRate": rate, "outerMomentum": momentum, "parametersAfter": steps})
vectors = {
    "torch": torch.__version__,
    "start": start.tolist(),
    "pseudoGradients": [g.tolist() for g in gradients],
    "cases": cases,
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(vectors, indent=1) + "\n")
