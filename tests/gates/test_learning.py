"""Gates: the whole stack must learn, in minutes on two cores. Each states what it starts from and what it must reach."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch

from rlseq import algos, tasks
from rlseq.env import SequenceEnv
from rlseq.evaluate import evaluate
from rlseq.nn.policy import Shape, make_policy
from rlseq.train import Stage, Trainer

CPU = torch.device("cpu")
SMALL = {"width": 48, "heads": 4, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
SORT = {"head": "pointer", "min_length": 2, "max_length": 5}


def train(task, policy, algorithm, folder, **stage):
    """Train and keep what did best on dev, by reward; the log of every update."""
    log = []
    Trainer(policy, algos.make(algorithm), SequenceEnv(task), Stage(**stage), "gate", seed=0, folder=folder,
            judge=lambda policy: evaluate(policy, task, "dev", CPU, limit=200).scores["reward"],
            log=lambda step, values: log.append(values)).run()
    return log


def fresh(task, **options):
    torch.manual_seed(0)
    return make_policy(task.sizes, Shape(**{"head": task.head, "positions": "none", **SMALL, **options}))


@pytest.mark.slow
def test_mle_learns_to_sort_with_a_pointer(tmp_path):
    # from about 5 % exact (short lists by luck) to at least 95 % on lists never seen; seen: 100 %
    task = tasks.make("sort", SORT)
    policy = fresh(task)
    before = evaluate(policy, task, "dev", CPU, limit=300).scores["exact"]
    train(task, policy, {"kind": "mle"}, tmp_path, updates=400, batch=64, lr=3e-3, warmup=40, every=200)
    after = evaluate(policy, task, "dev", CPU, limit=300).scores["exact"]
    assert before < 20 and after > 95, (before, after)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["mean", "greedy", "leave_one_out", "learned"])
def test_reinforce_learns_from_the_reward_alone(tmp_path, baseline):
    # from first weights (reward about 41) to at least 90 in 250 updates, and samples by at least 0.2; seen: 98 or more
    task = tasks.make("sort", SORT)
    policy = fresh(task)
    before = evaluate(policy, task, "dev", CPU, limit=300).scores["reward"]
    log = train(task, policy, {"kind": "reinforce", "k": 4, "baseline": baseline}, tmp_path, updates=250, batch=32, lr=1e-3,
                warmup=10, every=125)
    after = evaluate(policy, task, "dev", CPU, limit=300).scores["reward"]
    sampled = [values["reward"] for values in log if "reward" in values]
    assert np.mean(sampled[-20:]) > np.mean(sampled[:20]) + 0.2, sampled
    assert before < 50 and after > 90, (before, after)


@pytest.mark.slow
def test_somebody_elses_ppo_learns_to_sort_five_items():
    """Stable-Baselines3 knows nothing of us but gymnasium. Random play earns about 0.11 over all six actions,
    which mostly ends by an illegal one or an early STOP, and 0.46 over legal ones; PPO (0.7) must beat the better by 0.15.
    """
    from stable_baselines3 import PPO  # slow to import, and only here

    threads = torch.get_num_threads()
    torch.set_num_threads(1)                             # its networks are small: more threads only wait for each other
    options = {"head": "pointer", "min_length": 5, "max_length": 5}
    name = f"rlseq/sort-v{tasks.task_class('sort').version}"

    def play(choose, episodes=300):
        env, total = gymnasium.make(name, options=options, pool=256), 0.0
        for seed in range(episodes):
            seen, _ = env.reset(seed=seed)
            ended = False
            while not ended:
                seen, reward, terminated, truncated, _ = env.step(choose(seen))
                total, ended = total + reward, terminated or truncated
        return total / episodes

    dice = np.random.default_rng(0)
    anything = play(lambda seen: int(dice.integers(6)))
    legal = play(lambda seen: int(dice.choice(np.flatnonzero(seen["legal"]))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                  # of unbounded observations
        learner = PPO("MultiInputPolicy", gymnasium.make(name, options=options, pool=256), n_steps=1024, batch_size=128,
                      n_epochs=8, learning_rate=1.5e-3, ent_coef=0.005, gamma=1.0, seed=0, device="cpu")
        learner.learn(40_000)                            # 25 s
    torch.set_num_threads(threads)
    learnt = play(lambda seen: int(learner.predict(seen, deterministic=True)[0]))
    assert learnt > max(anything, legal) + 0.15, (anything, legal, learnt)
