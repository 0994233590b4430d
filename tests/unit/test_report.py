"""The report compares like with like, claims no winner that chance could explain, and opens anywhere."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from rlseq import server
from rlseq.report import main, main_table
from rlseq.report_groups import Judge, groups
from rlseq.report_svg import ticks
from rlseq.report_text import leaderboard, said_count
from rlseq.results import Result, config_hash, signature, write

COST = {"updates": 700, "sampled_tokens": 12_345, "scored_tokens": 2_500_000, "seconds": 84.0}
N = 200


def run(algo="reinforce", seed=0, right=150, before=100, data="ab12", policy="pointer", rows=None, metric="accuracy",
        score=None, start=None, budget=700, options=None):
    """A made-up run that answers the first `right` of 200 problems rightly after fine-tuning."""
    def evaluated(count, updates):
        stated = {"task": "toy-v0", "split": "test", "n": N, "decode": "greedy", "data": data,
                  "budget": f"updates={updates}", "seed": seed, "commit": f"abc{seed}"}
        found = 100 * count / N if score is None else score
        return {"test": {"signature": signature(stated), "n": N,
                         "metrics": {metric: {"score": found, "signature": "exact"}}}}
    def hits(count):
        return np.stack([np.arange(N) < count, np.ones(N)], 1) if rows is None else rows
    composed = {"algo": {"name": algo, **(options or {})}, "seed": seed}
    curve = [{"stage": "finetune", "updates": 100 * i, "seconds": 10.0 * i, "reward": None, "dev": 50.0 + i}
             for i in range(3)]
    result = Result(
        task="toy", task_version=0, policy=policy, algo=algo, seed=seed, plan="default", data=data, reward="exact",
        hash=config_hash(composed | {"data": data}), rlseq="0.1.0", commit="abc1234", dirty=False, torch="2.8",
        hardware="a CPU", device="cpu", precision="fp32", started="2025-01-01T00:00:00+00:00",
        finished="2025-01-01T00:01:00+00:00", config=composed, task_options={},
        pretrained={"hash": start or f"p{seed}", "cost": COST}, cost=COST, before=evaluated(before, 0),
        after=evaluated(right, budget), curve=curve, samples=[{"text": "<b>1 2</b> -> 2 1", "reward": 0.5}],
        pictures=[], primary=metric, tests=["test"])
    return replace(result, rows={f"before/test/{metric}": hits(before), f"after/test/{metric}": hits(right)})


def cells(results):
    [group] = groups(results)
    return {entry.label: cell for entry, cell in zip(group.entries, Judge(group).cells("test", group.metrics[0]))}


def test_of_equal_baselines_the_latest_is_compared_with():
    early, late = run("mle", right=120), replace(run("mle", right=140, options={"dropout": False}),
                                                 finished="2025-01-02T00:00:00+00:00")
    for order in ((early, late), (late, early)):
        found = cells([*order, run("reinforce", right=150)])
        assert found["reinforce"].difference.difference == pytest.approx(5.0)        # 150 - 140 of 200
        assert set(found) >= {"mle continued algo.dropout=False", "mle continued"}


def test_rows_are_pretrained_then_mle_then_algorithms_with_scores_by_hand():
    found = cells([run("reinforce", right=150), run("mle", right=120)])
    assert list(found) == ["mle pretrained", "mle continued", "reinforce"]
    assert [found[name].interval.score for name in found] == [50.0, 60.0, 75.0]     # 100, 120, 150 of 200
    # 30 problems of 200 gained, none lost: mean gain 15 points, standard error 100 sqrt(.15 * .85 / 200) = 2.52
    gain = found["reinforce"].difference
    assert gain.difference == pytest.approx(15.0)
    assert (gain.low, gain.high) == (pytest.approx(15 - 1.96 * 2.52, abs=0.8), pytest.approx(15 + 1.96 * 2.52, abs=0.8))
    assert found["mle continued"].difference is None and gain.p_flip < 0.001


def test_a_winner_must_separate_from_every_other_row():
    assert cells([run("reinforce", right=150), run("mle", right=120)])["reinforce"].wins
    close = cells([run("reinforce", right=150), run("mle", right=120), run("rloo", right=149)])
    assert not any(cell.wins for cell in close.values())
    noisy = [run("reinforce", seed, right) for seed, right in ((0, 190), (1, 121), (2, 125))]
    assert not any(cell.wins for cell in cells(noisy + [run("mle", seed, 120) for seed in range(3)]).values())
    assert not any(cell.wins for cell in cells([run("mle", right=120, before=120)]).values())


def test_p_values_are_corrected_over_the_algorithms_of_a_table():
    found = cells([run("mle", right=120), *(run(f"algo{i}", right=120 + 8) for i in range(4))])
    alone = cells([run("mle", right=120), run("algo0", right=120 + 8)])["algo0"]
    assert found["algo0"].p == pytest.approx(min(1, 4 * alone.p)) and alone.p == alone.difference.p
    assert found["mle pretrained"].p is None


@pytest.mark.parametrize("other", [{"data": "cd34"}, {"budget": 9}])
def test_results_of_other_data_or_another_budget_never_share_a_table(other):
    assert len(groups([run("mle"), run("reinforce", **other)])) == 2
    assert "to compare with MLE continued" in main_table([run("mle"), run("reinforce", **other)])
    assert len(groups([run("mle", 0), run("reinforce", 1)])) == 1      # seed and commit may differ


def test_seeds_are_paired_and_only_shared_ones_count():
    found = cells([run("mle", 1, 100), run("mle", 2, 140), run("reinforce", 1, 110), run("reinforce", 2, 150),
                   run("reinforce", 0, 10)])["reinforce"]
    assert found.difference.seeds == 2 and found.difference.difference == pytest.approx(5.0)
    text = leaderboard([Judge(one) for one in groups([run("mle", 0), run("reinforce", 0), run("reinforce", 1)])])
    assert "two seeds say little" in text and "reinforce (pointer) is compared with MLE over seeds \\[0\\] only" in text


def test_configurations_of_one_algorithm_are_rows_told_apart_by_what_differs():
    found = cells([run("mle"), run("reinforce", options={"k": 4}), run("reinforce", options={"k": 8}),
                   run("reinforce", seed=1, options={"k": 8})])
    assert list(found) == ["mle pretrained", "mle continued", "reinforce algo.k=4", "reinforce algo.k=8"]


def test_where_a_checkpoint_lay_makes_no_other_system_unless_a_seed_has_two():
    first, second, again = (replace(one, config=one.config | {"pretrained": given}) for one, given in (
        (run("mle"), None), (run("mle", seed=1), "runs/a"), (run("mle"), "runs/b")))
    [joined], apart = groups([first, second]), groups([first, second, again])[0]
    assert [(entry.label, entry.seeds) for entry in joined.entries if entry.stage == "after"] == [("mle continued", [0, 1])]
    assert {entry.label.partition(" pretrained=")[2]: entry.seeds for entry in apart.entries if entry.stage == "after"} == {
        "None": [0], "runs/a": [1], "runs/b": [0]}


def test_another_starting_point_than_mle_is_said():
    results = [run("mle"), run("reinforce", start="elsewhere")]
    assert "beware" in main_table(results) and "beware" not in main_table([run("mle"), run("reinforce")])
    assert "did not start from the checkpoint" in leaderboard([Judge(one) for one in groups(results)])


def test_one_configuration_that_made_other_weights_is_another_start():
    old = run("mle", right=120, before=90)                     # the same hash, but other answers before fine-tuning
    new = replace(run("mle", right=140, options={"average": 3}), finished="2025-01-02T00:00:00+00:00")
    assert old.pretrained == new.pretrained and not old.began_as(new) and new.began_as(run("reinforce"))
    found = cells([old, new, run("reinforce", right=150, before=90)])
    assert found["reinforce"].difference.difference == pytest.approx(15.0)           # 150 - 120 of 200, not - 140
    assert found["mle pretrained"].interval.score == 45.0, "two of three began there"
    assert "beware" in main_table([old, run("reinforce")])

    def of(weights, hash="p0"):
        return replace(run(before=90 if weights == "a" else 100), pretrained={"hash": hash, "weights": weights, "cost": COST})
    assert of("a").began_as(of("a", "by its path")) and not of("a").began_as(of("b")) and of("b").began_as(run())


def test_of_equal_starts_the_mle_by_the_same_plan_is_compared_with():
    def by(plan, one, finished):
        return replace(one, config=one.config | {"plan": {"average": plan}}, finished=f"2025-01-0{finished}T00:00:00+00:00")
    found = cells([by(1, run("mle", right=120), 1), by(3, run("mle", right=140), 2), by(1, run(right=150), 1)])
    assert found["reinforce"].difference.difference == pytest.approx(15.0)           # 150 - 120 of 200


def test_a_metric_that_older_runs_lack_is_shown_of_those_that_have_it():
    def with_nll(one):
        more = {**one.headline["metrics"], "nll": {"score": 50.0, "signature": "nats"}}
        return replace(one, finished="2025-01-02T00:00:00+00:00", after={"test": {**one.headline, "metrics": more}},
                       rows=one.rows | {"after/test/nll": np.stack([np.full(N, 0.5), np.ones(N)], 1)})
    [group] = groups([with_nll(run("mle")), run("reinforce")])                       # the old one comes last in the table
    judge = Judge(group, {"nll": lambda total: 100 * total[0] / total[1]})
    shown = {one.label: judge.interval(one, "test", "nll") for one in group.entries}
    assert shown["mle continued"].score == 50.0 and shown["reinforce"] is None and shown["mle pretrained"] is None


def test_seeds_that_share_a_start_are_said_to():
    for start, said in (("p", "3, one start"), (None, "3")):
        found = groups([run(seed=seed, start=start) for seed in range(3)])
        assert f"| mle pretrained | pointer | {said} |" in leaderboard([Judge(one) for one in found])


def test_corpus_bleu_gets_its_interval_and_unknown_statistics_are_admitted():
    # 200 sentences of 10 words with 9, 7, 5, 3 n-grams matched of 10, 9, 8, 7: BLEU = 100 (.9 * 7/9 * 5/8 * 3/7)^(1/4)
    rows = np.tile([10.0, 10, 9, 7, 5, 3, 10, 9, 8, 7], (N, 1))
    expected = 100 * (0.9 * 7 / 9 * 5 / 8 * 3 / 7) ** 0.25
    assert BLEU()._compute_score_from_stats(rows.sum(0).tolist()).score == pytest.approx(expected)
    found = cells([run("mle", rows=rows, metric="bleu", score=expected)])["mle continued"]
    assert (found.interval.low, found.interval.high) == (pytest.approx(expected), pytest.approx(expected))
    [group] = groups([run("mle", rows=rows, metric="odd", score=12.3)])
    judge = Judge(group)
    assert judge.interval(group.entries[-1], "test", "odd").score == 12.3 and "over seeds only" in judge.notes[0]
    assert np.isnan(judge.interval(group.entries[-1], "test", "odd").low)


def test_results_older_than_a_metric_stay_readable_beside_newer_ones(tmp_path):
    def newer(one):
        more = {"recall": {"score": 50.0, "signature": "r"}}
        stages = {stage: {"test": {**found["test"], "metrics": found["test"]["metrics"] | more}}
                  for stage, found in (("before", one.before), ("after", one.after))}
        half = np.stack([np.arange(N) % 2, np.ones(N)], 1)
        return replace(one, **stages, rows=one.rows | {f"{stage}/test/recall": half for stage in stages})
    for runs in ([newer(run(seed=0)), run(seed=1)], [run(seed=0), newer(run(seed=1))]):
        [group] = groups(runs)
        judge = Judge(group)
        assert set(group.metrics) == {"accuracy", "recall"}
        assert [judge.interval(one, "test", "recall") for one in group.entries] == [None, None]    # not of all seeds
        assert judge.interval(group.entries[-1], "test", "accuracy").score == 75 and not judge.notes
    shown = Judge(groups([newer(run(seed=0)), newer(run(seed=1))])[0])
    assert shown.interval(shown.group.entries[-1], "test", "recall").score == 50
    folder = written(tmp_path, newer(run(seed=0)), run(seed=1), newer(run("mle")))
    assert main(["--results", str(folder), "--tracking-uri", "none"]) == 0
    assert "recall" in (folder / "index.html").read_text()


def test_the_table_at_the_end_of_a_run():
    table = main_table([run("reinforce", right=150), run("mle", right=120)])
    assert re.search(r"test accuracy +50.0 \[.*?\] +60.0 \[.*?\] +75.0 \[.*?\] +\+15.00 \[.*?\]  p < 0.002", table)
    assert re.search(r"sampled tokens +12.3k +12.3k +12.3k", table) and "difference: reinforce - mle continued" in table
    alone = main_table([run("mle", right=120)])
    assert "difference: mle continued - mle pretrained" in alone and "+10.00" in alone


class Page(HTMLParser):
    """Tags that never closed, and addresses that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href") and not value.startswith("#")]
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def written(tmp_path, *results):
    for one in results:
        write(one, one.rows, tmp_path / "results")
    return tmp_path / "results"


def test_the_page_is_whole_offline_and_escapes_what_others_wrote(tmp_path, capsys):
    evil = run("reinforce", policy="pointer")
    evil = replace(evil, pictures=["a.png", "b.png", "c.png", "../../../../secret.png"], hardware="<script>x</script>")
    folder = written(tmp_path, evil, run("mle"))
    home = folder / "toy-v0" / "pointer" / "reinforce"
    (home / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 50)
    (home / "b.png").write_bytes(b"not a picture")
    (home / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 500_000)              # too large to embed
    assert main(["--results", str(folder), "--tracking-uri", "none"]) == 0
    text = (folder / "index.html").read_text()
    page = Page(text)
    assert page.open == [] and len(page.fetched) == 1 and page.fetched[0].startswith("data:image/png;base64,")
    assert "&lt;b&gt;1 2&lt;/b&gt;" in text and "<b>1 2" not in text and "<script>x" not in text
    assert set(re.findall(r"https?://[^\s\"<]+", text)) == {"http://www.w3.org/2000/svg"}     # a name, fetched by nobody
    assert "default-src 'none'" in text
    assert "| reinforce | pointer | 1 |" in (folder / "leaderboard.md").read_text()
    assert capsys.readouterr().out.startswith("2 results -> ")


def test_results_from_mlflow_join_those_of_the_folder_once(tmp_path, monkeypatch, capsys):
    folder, elsewhere = written(tmp_path, run("mle")), tmp_path / "elsewhere"
    def fetched(uri, home):
        assert uri == "http://server"
        again = replace(run("mle", right=130), finished="2025-01-01T00:05:00+00:00", pictures=["a.png", "../x.png"])
        (home / "1" / "pictures").mkdir(parents=True)
        (home / "1" / "pictures" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 50)
        (home / "1" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"1" * 50)     # outside the run's pictures
        return [Path(shutil.copytree(write(one, one.rows, elsewhere).parent, home / name / "result"), "0.json")
                for one, name in ((again, "1"), (run("reinforce"), "2"))]
    monkeypatch.setattr(server, "finished_results", fetched)
    assert main(["--results", str(folder), "--tracking-uri", "http://server", "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "2 results" in capsys.readouterr().out and "| mle continued | pointer | 1 | 65.0 " in text   # 130 of 200
    assert len(Page((tmp_path / "out" / "index.html").read_text()).fetched) == 1


def test_a_broken_result_is_one_line_and_nothing_at_all_is_exit_code_2(tmp_path, capsys):
    folder = written(tmp_path, run("mle"), run("reinforce"))
    (folder / "toy-v0" / "pointer" / "reinforce" / "0.json").write_text("{")
    assert main(["--results", str(folder), "--tracking-uri", "none"]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "left out: " in said and "not readable as JSON" in said
    assert "not readable as JSON" in (folder / "index.html").read_text()
    (folder / "toy-v0" / "pointer" / "mle" / "0.npz").unlink()
    assert main(["--results", str(folder), "--tracking-uri", "none"]) == 2
    assert main(["--results", str(tmp_path / "absent"), "--tracking-uri", "none"]) == 2
    said = capsys.readouterr().err
    assert "0.npz is missing" in said and "no results in" in said and "Traceback" not in said
    assert main(["--results", str(folder), "--tracking-uri", "http://127.0.0.1:9"]) == 2
    assert "no MLflow at http://127.0.0.1:9" in capsys.readouterr().err


def test_help_needs_neither_torch_nor_mlflow():
    code = ("import sys, runpy; sys.argv = ['report', '--help']\n"
            "try: runpy.run_module('rlseq.report', run_name='__main__')\nexcept SystemExit: pass\n"
            "assert not {'torch', 'mlflow', 'matplotlib'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and "--tracking-uri" in done.stdout, done.stderr


def test_ticks_are_round_and_inside():
    assert ticks(0, 700) == [0, 200, 400, 600] and ticks(71.2, 80.4) == [72, 74, 76, 78, 80]
    assert ticks(0.66, 0.77) == pytest.approx([0.7, 0.75]) and ticks(5, 5) == [5]


def test_counts_are_short():
    said = [said_count(value) for value in (0, 84.0, 240.5, 9999, 12_345, 999_999, 1_810_000, 2.5e9, 3.52)]
    assert said == ["0", "84", "240", "9999", "12.3k", "1000k", "1.81M", "2.5G", "3.5"]
