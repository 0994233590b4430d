"""`python tests/slurm/check.py URI RESULTS COUNT`: as many whole results as finished runs in MLflow, and no other run there."""

import sys
from collections import Counter
from pathlib import Path

from mlflow import MlflowClient

from rlseq import results

uri, home, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
found = [results.read(path) for path in sorted(home.rglob("*.json"))]
client = MlflowClient(uri)
runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
states = Counter(run.info.status for run in runs)
assert len(found) == count, f"{len(found)} results, {count} wanted"
assert states["FINISHED"] == count, f"MLflow has {dict(states)}, {count} finished ones wanted"
assert all(run.data.tags.get("rlseq.result") for run in runs if run.info.status == "FINISHED"), "each with its result"
print(f"        {count} results, and in MLflow: {', '.join(f'{number} {state}' for state, number in states.items())}")
