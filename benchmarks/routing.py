"""RL4CO 0.7.0: its pointer network on its travelling-salesman environment, one glimpse and one pointing a step. It runs
under an interpreter of its own (`--python rl4co=...`): this file needs torch and rl4co alone."""

from __future__ import annotations

import torch
from rl4co.envs import TSPEnv
from rl4co.models.zoo.ptrnet import PointerNetworkPolicy
from torch import nn

from .job import POINTS, WIDTH, Job, Repetition, cpu_only, instances


def reinforce(job: Job) -> Repetition:
    """W5: a sampled tour with its graph, a greedy one without as baseline, clipping at norm 1, Adam."""
    cpu_only(job)
    env = TSPEnv(generator_params={"num_loc": POINTS}, check_solution=False)
    policy = PointerNetworkPolicy(embed_dim=WIDTH, hidden_dim=WIDTH)
    optimiser = torch.optim.Adam(policy.parameters(), lr=1e-4)
    problems = env.reset(batch_size=[instances(job)])

    def repetition() -> float:
        with torch.no_grad():
            best = policy(problems.clone(), env, phase="train", decode_type="greedy")["reward"]
        drawn = policy(problems.clone(), env, phase="train", decode_type="sampling")
        loss = -((drawn["reward"] - best) * drawn["log_likelihood"]).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimiser.step()
        return float(instances(job))
    return repetition
