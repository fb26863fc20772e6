"""
The network of `train_mlp.py` in PyTorch; that script starts this one and asks for epochs.

    python benchmarks/_torch_mlp.py N_INPUTS FREQUENCIES HIDDEN HIDDEN CLASSES BATCH ROWS

Reads a line from standard input for each epoch, and answers with its seconds of processor time.
"""

import sys
import time

import torch
from torch import nn


class PeriodicEmbedding(nn.Module):  # type: ignore[misc]
    """Sines and cosines of learned frequencies, and the indicators of missing inputs."""

    def __init__(self, n_inputs: int, n_frequencies: int) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.frequencies = nn.Parameter(2 * torch.pi * torch.randn(n_inputs, n_frequencies))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, 2 · n_inputs) → (n, n_inputs · (2 · n_frequencies + 1))."""
        angles = (inputs[:, : self.n_inputs, None] * self.frequencies).flatten(1)
        return torch.cat([angles.sin(), angles.cos(), inputs[:, self.n_inputs :]], dim=1)


def main() -> None:
    """Train on request."""
    n_inputs, n_frequencies, first, second, n_classes, batch, n = map(int, sys.argv[1:])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    inputs = torch.zeros(n, 2 * n_inputs)
    inputs[:, :n_inputs] = 2 * torch.rand(n, n_inputs) - 1
    labels = torch.randint(n_classes, (n,))
    model = nn.Sequential(
        PeriodicEmbedding(n_inputs, n_frequencies),
        nn.Linear(n_inputs * (2 * n_frequencies + 1), first, bias=False),
        nn.BatchNorm1d(first),
        nn.ReLU(),
        nn.Linear(first, second, bias=False),
        nn.BatchNorm1d(second),
        nn.ReLU(),
        nn.Linear(second, n_classes),
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, foreach=True)
    loss_of = nn.CrossEntropyLoss()
    for _ in sys.stdin:
        started = time.process_time()
        order = torch.randperm(n)
        shuffled, wanted = inputs[order], labels[order]
        for start in range(0, n, batch):
            optimiser.zero_grad(set_to_none=True)
            loss = loss_of(model(shuffled[start : start + batch]), wanted[start : start + batch])
            loss.backward()
            optimiser.step()
        print(time.process_time() - started, flush=True)


if __name__ == "__main__":
    main()
