"""A token-level critic: what the rest of an answer will earn, from the decoder's state before each action."""

import torch
from torch import Tensor, nn


class Critic(nn.Module):
    """V(x, y_<t) [N, T] by two layers on the decoder's states [N, T, H]; 0 for every prefix before it has learnt.

    `shared` lets its gradient into the policy; else the states are read as they are.
    """

    def __init__(self, width: int, shared: bool = False) -> None:
        super().__init__()
        self.shared = shared
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        nn.init.zeros_(self.layers[2].weight)
        nn.init.zeros_(self.layers[2].bias)

    def forward(self, states: Tensor) -> Tensor:
        value = self.layers(states if self.shared else states.detach()).squeeze(-1)
        return value.to(torch.promote_types(value.dtype, torch.float32))                     # under autocast as well
