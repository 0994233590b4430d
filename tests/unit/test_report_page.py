"""The parts of the page: figures show what was measured, and no string of a data set can become markup."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from rlseq.report_explorer import as_data
from rlseq.report_figures import lengths, over_seeds, plain, themed
from rlseq.report_groups import Judge, groups
from rlseq.report_html import page
from rlseq.report_svg import Across, Line, chart
from rlseq.report_text import leaderboard, main_table
from tests.unit.test_report import run

HOSTILE = ("</script><img src=x onerror=alert(1)>", "\"'><svg onload=alert(2)>", "a\u2028b\u2029c", "\u202eterces\u202c",
           "<!--<script>", "&lt;b&gt;", "${x}", "\x00\x1b[31m")


def group(word="w"):
    """A made-up sampled group of one problem; every text of it is `word`."""
    answer = {"reward": 0.5, "words": [word, word], "logp": [-0.1, -0.2, -0.3], "worth": [0.1, 0.2, 0.5], "advantage": 0.25,
              "positions": [0, 1], "map": [[0, 200, 1, 55], [1, 255], [-1, 255]]}
    return {"split": "test", "index": 0, "head": "pointer", "size": 3, "source": [word] * 3, "reference": [word],
            "positions": [0], "points": [[0, 0], [1, 0], [0, 1]],
            "stages": {"before": [answer, {**answer, "advantage": None}], "after": [answer, {**answer, "advantage": None}]}}


def full(one, word="w"):
    """The run with all that a result may hold; every text of others in it is `word`."""
    answers = one.rows["after/test/accuracy"]
    more = {f"{name}/test/accuracy": answers for name in ("last", "beam1", "beam5", "sampled", "mle_sampled")}
    return replace(one, samples=[{"text": word, "reward": 0.5}], hardware=word, groups=[group(word)],
                   beams={"1": {}, "5": {}}, diagnostics={"kl": {"before": 0.0, "after": 0.5}}, rows={**one.rows, **more})


def hostile(text):
    """A run in which everything that others may write is this text."""
    one = run("reinforce", policy="pointer")
    return replace(one, samples=[{"text": text, "reward": 0.5}], hardware=text, groups=[group(text)],
                   diagnostics={text: {"before": 1.0, "after": None}}, variants={text: {"test": {"accuracy": 1.0}}},
                   curve=[{"stage": "finetune", "updates": i, "seconds": i, "dev": 1.0, text: 2.0 + i} for i in range(3)])


class Tags(HTMLParser):
    """Names of all elements, and of all attributes."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.data = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.data.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_string_of_others_becomes_markup(text):
    made = Tags(page([Judge(one) for one in groups([run("mle"), hostile(text)])], complaints=[text]))
    plain = Tags(page([Judge(one) for one in groups([run("mle"), hostile("w")])], complaints=["w"]))
    assert made.elements == plain.elements and made.attributes == plain.attributes
    assert not any(name.startswith("on") or name == "style" for name in made.attributes)
    data = next(one for one in made.data if one.startswith('[{"name"'))
    assert json.loads(data)[0]["groups"][0]["source"] == [text] * 3          # and it arrives as it was written


@pytest.mark.parametrize("text", HOSTILE)
def test_data_for_scripts_is_plain_ascii_that_ends_no_element(text):
    written = as_data([text])
    assert written.isascii() and not re.search("[<>&]", written) and json.loads(written) == [text]


def test_the_page_allows_its_own_style_and_script_only():
    text = page([Judge(one) for one in groups([run("mle")])])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and policy.count("sha256-") == 2
    assert " style=" not in text, "the policy forbids it"


def test_curves_are_means_over_seeds_with_the_lowest_and_the_highest():
    def curve(*dev):
        return [{"stage": "finetune", "updates": 10 * i, "seconds": float(i + shift), "dev": value}
                for i, (value, shift) in enumerate(zip(dev, (0, 1, 2)))]
    first, second = (replace(run("rloo", seed), curve=points) for seed, points in ((0, curve(1, 2, 6)), (1, curve(3, 8))))
    entry = next(one for one in groups([first, second])[0].entries if one.algo == "rloo")
    line = over_seeds(entry, 0, "seconds", "dev", "finetune")
    # shared updates 0 and 10: means (1 + 3) / 2 and (2 + 8) / 2 at second 0 and 2; update 20 has one seed only
    assert line.points == ((0.0, 2.0), (2.0, 5.0)) and line.around == ((1, 3), (2, 8))



def test_lengths_are_told_from_years():
    assert lengths(["test-50", "test-5", "test-500", "other"]) == [(5, "test-5"), (50, "test-50"), (500, "test-500")]
    assert lengths(["test-2016", "test-2017", "test-2018"]) == [] and lengths(["test-5", "test-50"]) == []


def test_places_in_a_chart_by_hand():
    # x runs from 0 to 10 over 54 .. 426, y from -0.6 to 10.6 over 212 .. 14: (5, 5) lies in the middle of both
    drawn = chart([Line("one", "mle", 0, ((0.0, 0.0), (5.0, 5.0), (10.0, 10.0)))], Across("updates"), "dev")
    assert "54.0,201.4 240.0,113.0 426.0,24.6" in drawn
    log = chart([Line("one", "mle", 0, ((1.0, 0.0), (10.0, 1.0), (100.0, 2.0)), joined=False)],
                Across("size", (1.0, 10.0, 100.0), log=True), "dev")
    places = [float(one) for one in re.findall(r'cx="([\d.]+)"', log)]
    assert np.diff(places)[0] == pytest.approx(np.diff(places)[1], abs=0.2), "equal ratios are equally far apart"


def test_what_results_lack_is_not_drawn():
    text = page([Judge(one) for one in groups([run("mle"), run("reinforce")])])
    for heading in ("Beam width", "Length generalisation", "Diagnostics", "of each checkpoint", "Explorer of", "laboratory"):
        assert heading not in text
    text = page([Judge(one) for one in groups([run("mle"), full(run("reinforce"))])])
    for heading in ("Beam width", "Diagnostics", "of each checkpoint", "Explorer of", "0 → 0.5", "last</button>"):
        assert heading in text


def test_groups_that_would_make_the_page_too_large_are_left_out_and_that_is_said(monkeypatch):
    monkeypatch.setattr("rlseq.report_explorer.MOST", 2 * len(as_data(group())))
    runs = [replace(run(f"algo{i}"), groups=[group()]) for i in range(4)]
    text = page([Judge(one) for one in groups(runs)])
    assert "of these systems are left out" in text and text.count('"groups":') < 4


def test_the_signal_gain_names_the_strongest_control_and_stands_in_page_and_leaderboard():
    paid = replace(run("reinforce", right=140), algo="reinforce+constant", control="constant")
    judged = [Judge(one) for one in groups([run("mle", right=120), run("reinforce", right=150), paid])]
    # of 200 problems: 150 - 140 = 10 are 5 points, less than the 15 over MLE continued
    text, marked = page(judged), leaderboard(judged)
    assert re.search(r"\+5\.00 <small>\[[^<]*\]</small><br><small>over a constant reward", text)
    assert re.search(r"\| \+5\.00 \[[^|]*\] over a constant reward \|", marked) and "signal gain" in marked
    assert ">+15.00 <small>" in text, "the gain over each control stands in a table of its own"
    alone = [Judge(one) for one in groups([run("mle")])]
    assert "signal gain</button>" not in page(alone) and "| signal gain |" not in leaderboard(alone)


def test_a_task_with_several_rewards_gets_a_cross_table():
    def paid(reward, right):
        one = run("reinforce", right=right)
        stated = {split: {**said, "signature": said["signature"] + f"|reward:{reward}"} for split, said in one.after.items()}
        before = {split: {**said, "signature": said["signature"] + f"|reward:{reward}"} for split, said in one.before.items()}
        return replace(one, reward=reward, after=stated, before=before, config={**one.config, "task": {"reward": reward}})
    text = page([Judge(one) for one in groups([paid("bleu", 150), paid("chrf", 120)])])
    crossed = text[text.index('id="cross"'):]
    assert re.search(r"bleu</th>.*?75\.0", crossed) and re.search(r"chrf</th>.*?60\.0", crossed)      # 150 and 120 of 200


def test_nats_are_said_in_three_decimals_and_less_of_them_is_better():
    one, rows = run("reinforce"), np.stack([np.full(200, 2.5), np.full(200, 2.0)], 1)
    nll = {"score": 1.25, "signature": "nats", "lower": True}
    before, after = ({"test": {**stage["test"], "metrics": {**stage["test"]["metrics"], "nll": nll}}}
                     for stage in (one.before, one.after))
    one = replace(one, before=before, after=after, rows={**one.rows, "before/test/nll": rows, "after/test/nll": rows})
    judged = [Judge(group) for group in groups([one])]
    for said in (main_table([one]), leaderboard(judged), re.sub(r"<[^>]*>", "", page(judged))):
        assert "1.250 [1.250, 1.250]" in said and re.search(r"nll( \(test\))? \(less is better\)", said), said
        assert "75.0 [" in said and "accuracy (less" not in said
    assert "+0.0000 [+0.0000, +0.0000]" in main_table([one])


def test_what_was_watched_stands_under_its_theme_and_nothing_is_lost():
    assert plain("gold_change_rank_11_100") == "gold change rank 11 to 100"
    names = ["gold_nll", "sample_reward", "decoded_reward", "kl", "kl_answer", "ess", "gradient_snr", "somebody's own"]
    assert themed(names) == {
        "References, token by token": ["gold_nll"], "Answers drawn": ["sample_reward"], "Greedy answers": ["decoded_reward"],
        "Distance between policies": ["kl", "kl_answer", "ess"], "Updates": ["gradient_snr", "somebody's own"]}
    one = run("reinforce")
    one = replace(one, curve=[{**point, **dict.fromkeys(names, 1.0)} for point in one.curve],
                  diagnostics={name: {"before": 0.0, "after": 1.0} for name in names})
    made = page([Judge(group) for group in groups([one])])
    folds = re.findall(r'<details class="theme"><summary>([^<]*)</summary>(.*?)</details>', made)
    assert [heading for heading, _ in folds] == list(themed(names))
    assert [inside.count("<svg") for _, inside in folds] == [1, 1, 1, 3, 2]
    tables = re.findall(r"<h4>([^<]*)</h4><p [^>]*>[^<]*</p><div [^>]*><table>.*?</table>", made)
    assert set(themed(names)) <= set(tables)
