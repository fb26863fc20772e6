"""
Training of `Sasrec` in PyTorch: the same network as in `sasrec`, with gradients.

Each epoch cuts every user's events into sequences at new places and draws a new target for each event from
the `horizon` that follow it. The loss is the cross-entropy over the catalogue or, where that is large, over
the target and a shared draw of items whose logits are corrected by how often they are drawn (Bengio &
Senécal 2008), so that its expectation is near that of the full softmax. The item bias starts as log
popularity: what is left to learn is how a user differs from the crowd.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from marquee.data.schema import Index, Microseconds
from marquee.models._sequences import GAPS, MASKED, RATINGS, Arrays, SasrecConfig, Sequences, padded
from marquee.models.base import Progress

__all__ = ["Network", "train"]

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""
GRADIENT_NORM = 1.0


def train(
    config: SasrecConfig,
    items: Index,
    ratings: Index,
    times: Microseconds,
    starts: Index,
    weights: NDArray[np.float64],
    counts: NDArray[np.float64],
    progress: Progress,
) -> Arrays:
    """
    Weights of a network trained on the events of users.

    Args:
        config: hyper-parameters.
        items, ratings, times: (n_events,) item index, class of rating and time, by user and then time.
        starts: (n_users,) first event of each user.
        weights: (n_events,) how much an event counts as a target.
        counts: (n_items,) summed weights of each item.
        progress: told of each epoch.

    Returns:
        Name → float32 array, as `Sasrec` reads them.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.default_rng(config.seed)
    cuts = _Cuts(config, items, ratings, times, starts, weights)
    # A seed of our own leaves the caller's random numbers alone.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(config.seed)
        network = Network(config, counts).to(device)
        steps = config.epochs * cuts.steps
        # Decay draws weights to nothing; the bias of an item has its popularity to keep.
        flat = [parameter for parameter in network.parameters() if parameter.ndim < 2]
        deep = [parameter for parameter in network.parameters() if parameter.ndim >= 2]
        optimizer = torch.optim.AdamW(
            [{"params": deep, "weight_decay": config.weight_decay}, {"params": flat, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / max(steps, 1)))
        chances = np.sqrt(counts) / max(np.sqrt(counts).sum(), 1e-12)
        progress.total(config.epochs, "epochs")
        for _ in range(config.epochs):
            losses = []
            for sequences, targets, target_weights in cuts.epoch(rng):
                drawn = None
                if len(counts) > config.softmax_items:
                    drawn = rng.choice(len(counts), config.softmax_items, p=chances)
                loss = network.loss(sequences, targets, target_weights, drawn, chances)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
                optimizer.step()
                schedule.step()
                losses.append(loss.detach())
            progress.step({"loss": float(torch.stack(losses).mean())} if losses else None)
    trained: Arrays = network.arrays()
    return trained


class Network(nn.Module):  # type: ignore[misc]
    """
    The network of `Sasrec`.

    Args:
        config: sizes and dropout.
        counts: (n_items,) how popular each item is.
    """

    def __init__(self, config: SasrecConfig, counts: NDArray[np.float64]) -> None:
        super().__init__()
        d = config.width
        popularity = (counts + 1e-3 * counts.mean()) / max(counts.sum(), 1e-12) if len(counts) else counts
        self.scale = d**0.5
        self.items = nn.Parameter(torch.randn(len(counts), d) * 0.02)
        self.item_bias = nn.Parameter(torch.tensor(np.log(popularity + 1e-12), dtype=torch.float32))
        self.ratings = nn.Parameter(torch.randn(RATINGS, d) * 0.02)
        self.ago = nn.Parameter(torch.zeros(config.blocks * config.heads, config.length))
        self.gap = nn.Parameter(torch.zeros(config.blocks * config.heads, GAPS))
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(d)

    def forward(self, sequences: Sequences) -> Tensor:
        """(n, length, d) summary of each event and those before it."""
        device = self.items.device
        length = sequences.items.shape[1]
        steps = torch.arange(length, device=device)
        ago = (steps[:, None] - steps).clamp(min=0)
        gaps = torch.from_numpy(sequences.gaps()).to(device)
        hidden = torch.from_numpy(sequences.hidden()).to(device)
        items = functional.embedding(torch.from_numpy(sequences.items).to(device), self.items)
        ratings = functional.embedding(torch.from_numpy(sequences.ratings).to(device), self.ratings)
        x = self.drop(items * self.scale + ratings)
        # (n, blocks · heads, length, length), gathered at once
        biases = functional.embedding(gaps, self.gap.T).permute(0, 3, 1, 2) + self.ago[:, ago]
        biases = biases.masked_fill(hidden[:, None], float(MASKED))
        for block, bias in zip(self.blocks, biases.chunk(len(self.blocks), dim=1), strict=True):
            x = block(x, bias)
        return self.norm(x)

    def loss(
        self,
        sequences: Sequences,
        targets: Index,
        weights: NDArray[np.float32],
        drawn: Index | None,
        chances: NDArray[np.float64],
    ) -> Tensor:
        """
        Weighted cross-entropy.

        Args:
            sequences: n sequences.
            targets: (n, length) item indices.
            weights: (n, length), 0 where there is no target.
            drawn: (m,) item indices in the softmax besides the target; None: all items.
            chances: (n_items,) probability of an item in each draw.
        """
        device = self.items.device
        told = torch.from_numpy(weights > 0).to(device)
        h = self(sequences)[told]  # (n_targets, d)
        wanted = torch.from_numpy(targets).to(device)[told]
        weight = torch.from_numpy(weights).to(device)[told]
        if drawn is None:
            logits = h @ self.items.T + self.item_bias
            losses = functional.cross_entropy(logits, wanted, reduction="none")
        else:
            others = torch.from_numpy(drawn).to(device)
            expected = np.log(len(drawn) * chances[drawn]).astype(np.float32)
            logits = h @ functional.embedding(others, self.items).T
            logits = logits + (self.item_bias[others] - torch.from_numpy(expected).to(device))
            logits = logits.masked_fill(others[None] == wanted[:, None], float(MASKED))
            own = (h * functional.embedding(wanted, self.items)).sum(-1) + self.item_bias[wanted]
            losses = torch.logaddexp(torch.logsumexp(logits, dim=1), own) - own
        return (weight * losses).sum() / max(len(losses), 1)

    def arrays(self) -> Arrays:
        """The weights by the names that `Sasrec` reads."""
        state: dict[str, Tensor] = self.state_dict()
        return {
            name.replace("blocks.", "block", 1): np.ascontiguousarray(tensor.detach().cpu().numpy())
            for name, tensor in state.items()
        }


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, config: SasrecConfig) -> None:
        super().__init__()
        d = config.width
        self.heads = config.heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.gate1, self.gate2 = nn.Linear(d, d), nn.Linear(d, d)
        self.inner, self.outer = nn.Linear(d, 4 * d), nn.Linear(2 * d, d)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        n, length, d = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, length, 3, self.heads, d // self.heads)
        Q, K, V = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(Q, K, V, attn_mask=bias)
        mixed = self.out(mixed.transpose(1, 2).reshape(n, length, d))
        x = x + torch.sigmoid(self.gate1(x)) * self.drop(mixed)
        left, right = self.inner(self.norm2(x)).chunk(2, dim=-1)
        return x + torch.sigmoid(self.gate2(x)) * self.drop(self.outer(functional.silu(left) * right))


class _Cuts:
    """The events of all users, cut into sequences anew in each epoch."""

    def __init__(
        self,
        config: SasrecConfig,
        items: Index,
        ratings: Index,
        times: Microseconds,
        starts: Index,
        weights: NDArray[np.float64],
    ) -> None:
        self.config = config
        self.items, self.ratings, self.times = items, ratings, times
        self.starts, self.stops = starts, np.append(starts[1:], len(items))
        self.stop_of = np.repeat(self.stops, self.stops - self.starts)  # (n_events,)
        self.weights = weights / max(weights.mean(), 1e-12) if len(weights) else weights
        most = (self.stops - self.starts) // config.length + 2
        self.steps = -(-int(most.sum()) // config.batch_sequences)

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[Sequences, Index, NDArray[np.float32]]]:
        """Batches in random order: sequences, (n, length) targets and (n, length) their weights."""
        if len(self.items) < 2:
            return
        length = self.config.length
        last = np.maximum(self.stop_of - 1, 0)
        target = np.minimum(
            np.arange(len(self.items)) + rng.integers(1, self.config.horizon + 1, len(self.items)), last
        )
        # Events of one moment do not follow one another.
        follows = self.times[target] > self.times
        weight = np.where(follows, self.weights[target], 0.0).astype(np.float32)
        first = self.starts - rng.integers(0, length, len(self.starts))
        n_cuts = -(-(self.stops - first) // length)
        users = np.repeat(np.arange(len(self.starts)), n_cuts)
        place = np.arange(len(users)) - np.repeat(np.cumsum(n_cuts) - n_cuts, n_cuts)
        begin = np.maximum(first[users] + place * length, self.starts[users])
        end = np.minimum(first[users] + (place + 1) * length, self.stops[users])
        following = np.minimum(end, self.stops[users] - 1)
        order = rng.permutation(len(users))
        for start in range(0, len(order), self.config.batch_sequences):
            rows = order[start : start + self.config.batch_sequences]
            sequences = padded(
                begin[rows], end[rows], self.items, self.ratings, self.times, self.times[following[rows]]
            )
            width = sequences.items.shape[1]
            where = np.maximum(end[rows][:, None] - np.arange(width, 0, -1), 0)
            told = np.where(sequences.inside, weight[where], np.float32(0.0))
            yield sequences, self.items[target[where]], told


def _rate(done: float) -> float:
    """Share of the learning rate: a linear rise, then a half cosine to nothing."""
    if done < WARM_UP:
        return done / WARM_UP
    return 0.5 * (1.0 + float(np.cos(np.pi * min((done - WARM_UP) / (1.0 - WARM_UP), 1.0))))
