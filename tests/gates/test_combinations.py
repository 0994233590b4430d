"""Gates: every policy that fits a task and every algorithm run to their end on it, with plan=smoke."""

from itertools import cycle, islice

import hydra
import pytest
from omegaconf import OmegaConf

from rlseq import algos, build, experiment, tasks
from rlseq.paths import CONF
from rlseq.run import checked, choices
from tests.toys import configured, fits

SHARED = ("summarization", "translation")                # slow and much alike: each algorithm runs on one of the two
BLIND = {"fixed": {"attention_reg", "coverage"}}         # no attention to regularise: refused, as tests/unit/test_run.py holds


def pairs() -> list[tuple[str, str, str]]:
    """(task, policy, algorithm): for each task every fitting policy, and every algorithm (on the text tasks every second one)
    at least once."""
    found = []
    for task in tasks.names():
        policies = [name for name, options in configured("policy").items() if fits(options, task)]
        algorithms = choices("algo")[SHARED.index(task)::2] if task in SHARED else choices("algo")
        wanted = max(len(policies), len(algorithms))
        for policy, algo in zip(islice(cycle(policies), wanted), islice(cycle(algorithms), wanted), strict=True):
            found.append((task, "lstm" if algo in BLIND.get(policy, ()) else policy, algo))
        found += [(task, policy, "mle") for policy in policies if (task, policy) not in {one[:2] for one in found}]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One working folder for all, so that what runs cache is made once."""
    return tmp_path_factory.mktemp("combinations")


@pytest.mark.slow
@pytest.mark.parametrize(("task", "policy", "algo"), pairs())
def test_every_policy_and_algorithm_runs_to_its_end_on_every_task(task, policy, algo, folder, monkeypatch):
    monkeypatch.chdir(folder)
    words = checked([f"task={task}", f"policy={policy}", f"algo={algo}", "plan=smoke", "tracking=none"])
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose("config", overrides=words), resolve=True)
    names = {"task": task, "policy": policy, "algo": algo, "plan": "smoke"}
    result = experiment.run(config, names)[-1]
    assert result.cost["updates"] == 4 and result.cost["scored_tokens"] > 0
    assert all(0 <= one["score"] <= 100 or one.get("lower") and one["score"] >= 0
               for one in result.after[result.tests[0]]["metrics"].values())
    draws = "temperature" in build.names(algos.kind_of(config["algo"]["kind"])) or algo in ("scheduled_sampling", "dagger")
    assert bool(result.samples) == (task != "summarization"), "other people's docstrings stay out of result files"
    assert (result.cost["sampled_tokens"] > 0) == draws
