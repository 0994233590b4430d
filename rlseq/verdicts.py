"""What is wrong or right with a run, judged by the numbers of its looks: one function a verdict, one constant a threshold.

A verdict quotes the numbers it rests on and the threshold beside them, and says what to change. A run that lacks a verdict's
numbers gets none of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log

FLAT = 0.9            # share of groups whose answers earn alike: nine of ten problems teach nothing, and cost as much
SPREAD = 0.05         # of rewards within a group (or batch, of one answer a source): below, flat groups are not made up for
FAR = 0.5             # samples earn less than this share of greedy's reward: what is learned from is not what is decoded
GAIN = 0.01           # of reward: a point of 100, about what a probe of 64 problems can see at all
LOSS = 0.05           # of reward: more than chance takes from a probe of 64 problems that is looked at again
PEAK = 0.7            # what is left of the mass beside the likeliest action: Choshen et al. 2020 saw such peaking pay nothing
OPEN = 0.02           # mass beside the likeliest action; with less there is hardly anything left to peak
COLLAPSE = 0.2        # entropy left: four fifths of what could be drawn is gone
LOOPS = 0.2           # more of the 4-grams come twice than before: loops, where other answers hold none
DRIFT = 1.25          # times further from the references' length than before: a fifth too short or a quarter too long
CUT = 0.1             # more answers than before end at the horizon, without STOP
KL = 0.25             # nats a token: by Pinsker up to sqrt(KL / 2) = 35 % of the mass of every step may have moved
MOVED = 0.05          # nats a token: up to 16 % of the mass; a policy that went so far and lost reward took too long steps
OFF = 0.1             # mean |log ratio| of the drawing and the learning policy: ratios stray by 10 %, half of PPO's clip
ESS = 0.5             # effective sample size: half of the answers count for nothing
ERROR = 0.02          # |log p| of step-by-step drawing against the scoring pass: float32 differs by 1e-6, bf16 by 1e-2
STILL = 1e-4          # nats a token: at most 0.7 % of the mass moved
SAME = 0.002          # share of reference tokens whose likeliest action changed: two in a thousand
WEAK = 2.0            # square of weights over their variance within a problem: a better baseline halves the noise
CEILING = 0.99        # of the reward, which ends at 1
SKIPPED = 0.01        # of the updates were left out: now and then one does no harm
ALIKE = 0.02          # spread of rewards so small that there is nothing to choose between

Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class Course:
    """A run's looks, oldest first, and the look before training; `name` is for people."""

    name: str
    before: Numbers
    looks: Sequence[Numbers] = field(default_factory=list)

    @property
    def rewarded(self) -> bool:
        """Whether it learned from rewards of its own samples."""
        return any(look.get("spread") is not None for look in self.looks)

    def mean(self, name: str) -> float:
        """Over all looks. Raises KeyError where none has it."""
        found = [look[name] for look in self.looks if look.get(name) is not None]
        if not found:
            raise KeyError(name)
        return sum(found) / len(found)

    def last(self, name: str) -> float:
        """At the last look. Raises KeyError where it is not known."""
        return _known(self.looks[-1] if self.looks else {}, name)

    def first(self, name: str) -> float:
        """Before training. Raises KeyError where it is not known."""
        return _known(self.before, name)


def course(name: str, curve: Sequence[Mapping], diagnostics: Mapping[str, Numbers]) -> Course:
    """A run from the curve and the diagnostics of its result."""
    return Course(name, {key: value.get("before") for key, value in diagnostics.items()},
                  [point for point in curve if point["stage"] != "pretrain"])


@dataclass(frozen=True)
class Verdict:
    """`sick` or not, why in one sentence with its numbers, what to change; `fine` says in a few words what is right."""

    name: str
    sick: bool
    says: str
    change: str
    numbers: dict[str, float]
    limits: dict[str, float]
    fine: str


def _known(values: Numbers, name: str) -> float:
    value = values.get(name)
    if value is None:
        raise KeyError(name)
    return value


def no_spread(run: Course) -> Verdict:
    flat, spread = run.mean("flat"), run.mean("spread")
    single = flat == 1 and spread > 1e-6         # one answer a source: a group of one is flat, the batch's spread counts
    limit = ALIKE if single else SPREAD
    sick = flat >= FLAT and spread < limit
    return Verdict(
        "no spread in rewards", sick,
        f"all answers to a source earn the same in {flat:.0%} of the groups (limit {FLAT:.0%}), spread {spread:.3f} "
        f"(limit {limit})", "Draw more answers a source (algo.k), pretrain longer, or take a reward that tells them apart "
        "(partial credit in place of all or nothing).", {"flat": flat, "spread": spread},
        {"flat": FLAT, "spread": limit},
        f"rewards spread by {spread:.3f}" + ("" if single else f", in {1 - flat:.0%} of groups"))


def far_below_greedy(run: Course) -> Verdict:
    drawn, greedy = run.last("sample_reward"), run.last("decoded_reward")
    return Verdict(
        "samples far below greedy", run.rewarded and greedy > LOSS and drawn < FAR * greedy,
        f"samples earn {drawn:.3f}, greedy answers {greedy:.3f} (limit: {FAR:.0%} of that, {FAR * greedy:.3f})",
        "Pretrain longer or without label smoothing, draw closer to greedy (algo.temperature=0.7), or mix in references "
        "(algo.mle_weight).", {"sample_reward": drawn, "decoded_reward": greedy}, {"share": FAR},
        f"samples earn {drawn:.3f}, greedy answers {greedy:.3f}")


def peaking(run: Course) -> Verdict:
    was, now = 1 - run.first("gold_top1"), 1 - run.last("gold_top1")
    gain = run.last("decoded_reward") - run.first("decoded_reward")
    return Verdict(
        "peaking", run.rewarded and was > OPEN and now < PEAK * was and gain < GAIN,
        f"mass beside the likeliest action {was:.3f} -> {now:.3f} (limit {PEAK:.0%} of the first), for a gain in greedy "
        f"reward of {gain:+.3f} (limit +{GAIN})", "The reward sharpens what was likely before and finds nothing new: add an "
        "entropy bonus (algo.entropy) or KL (algo.kl.weight), or draw more answers (algo.k).",
        {"beside_before": was, "beside": now, "gain": gain}, {"share": PEAK, "gain": GAIN},
        f"mass beside the likeliest action {was:.2f} -> {now:.2f}")


def collapse(run: Course) -> Verdict:
    was, now = run.first("sample_entropy"), run.last("sample_entropy")
    loops = run.last("sample_repetition") - run.first("sample_repetition")
    gain = run.last("sample_reward") - run.first("sample_reward")
    return Verdict(
        "collapse", gain < GAIN and (now < COLLAPSE * was or loops > LOOPS),
        f"entropy {was:.3f} -> {now:.3f} nats a token (limit {COLLAPSE:.0%} of the first), repeated 4-grams {loops:+.0%} "
        f"(limit +{LOOPS:.0%}), reward of samples {gain:+.3f} (limit +{GAIN})", "Lower plan.finetune.lr, add an entropy bonus "
        "(algo.entropy) or KL (algo.kl.weight), or stop earlier (plan.finetune.updates).",
        {"entropy_before": was, "entropy": now, "repetition": loops, "gain": gain},
        {"entropy": COLLAPSE, "repetition": LOOPS, "gain": GAIN}, f"entropy {was:.2f} -> {now:.2f}")


def length_drift(run: Course) -> Verdict:
    was, now = run.first("sample_length_ratio"), run.last("sample_length_ratio")
    cut = run.last("sample_truncated") - run.first("sample_truncated")
    further = abs(log(max(now, 1e-6))) - abs(log(max(was, 1e-6)))
    return Verdict(
        "length drift", further > log(DRIFT) or cut > CUT,
        f"samples are {was:.2f} -> {now:.2f} times as long as references (limit {DRIFT} times further off), {cut:+.0%} of "
        f"them end without STOP (limit +{CUT:.0%})", "The reward pays for length, or the loss does: take algo.normalise=sum, "
        "a reward with a brevity penalty, or KL (algo.kl.weight).",
        {"length_ratio_before": was, "length_ratio": now, "truncated": cut}, {"times": DRIFT, "truncated": CUT},
        f"{now:.2f} times the references' length")


def kl_alarm(run: Course) -> Verdict:
    kl, gain = run.last("kl"), run.last("decoded_reward") - run.first("decoded_reward")
    return Verdict(
        "KL alarm", kl > KL and gain < GAIN,
        f"KL to the pretrained policy {kl:.3g} nats a token (limit {KL}), gain in greedy reward {gain:+.3f} (limit +{GAIN})",
        "The policy left where it came from and gained nothing by it: price KL (algo.kl.weight), lower plan.finetune.lr, or "
        "stop earlier.", {"kl": kl, "gain": gain}, {"kl": KL, "gain": GAIN}, f"KL {kl:.2g} nats a token")


def off_policy_drift(run: Course) -> Verdict:
    off = run.mean("off_policy") if run.rewarded and _has(run, "off_policy") else 0.0
    ess = run.mean("ess") if _has(run, "ess") else 1.0
    error = run.last("draw_error")
    return Verdict(
        "off-policy drift", off > OFF or ess < ESS or error > ERROR,
        f"answers were drawn by a policy whose log-probabilities differ by {off:.2g} a token (limit {OFF}), effective sample "
        f"size {ess:.0%} (limit {ESS:.0%}), drawing against scoring {error:.1g} (limit {ERROR})",
        "Take fewer steps on an answer (algo.reuse.epochs), a lower plan.finetune.lr, a temperature nearer 1; if drawing and "
        "scoring differ, precision=fp32.", {"off_policy": off, "ess": ess, "draw_error": error},
        {"off_policy": OFF, "ess": ESS, "draw_error": ERROR}, "answers are the policy's own")


def too_fast(run: Course) -> Verdict:
    was, now, kl = run.first("decoded_reward"), run.last("decoded_reward"), run.last("kl")
    return Verdict(
        "learning rate too high", was - now > LOSS and kl > MOVED,
        f"greedy reward {was:.3f} -> {now:.3f} (limit -{LOSS}) after moving by {kl:.3g} nats a token (limit {MOVED})",
        "Lower plan.finetune.lr by 3 to 10 times, or warm up longer (plan.finetune.warmup).",
        {"reward_before": was, "reward": now, "kl": kl}, {"loss": LOSS, "kl": MOVED},
        f"greedy reward {was:.3f} -> {now:.3f}")


def still(run: Course) -> Verdict:
    kl, changed = run.last("kl"), run.last("gold_argmax_changed")
    return Verdict(
        "policy did not move", kl < STILL and changed < SAME,
        f"KL to the pretrained policy {kl:.2g} nats a token (limit {STILL:g}), likeliest action changed at {changed:.2%} of "
        f"reference tokens (limit {SAME:.1%})", "Raise plan.finetune.lr or plan.finetune.updates; if rewards have no spread, "
        "mend that first.", {"kl": kl, "argmax_changed": changed}, {"kl": STILL, "argmax_changed": SAME},
        f"likeliest action changed at {changed:.1%} of tokens")


def weak_baseline(run: Course) -> Verdict:
    square, variance = run.mean("weight_square"), run.mean("weight_variance")
    times = square / variance if variance > 0 else 1.0
    return Verdict(
        "baseline too weak", times > WEAK and run.mean("spread") > ALIKE,
        f"weights of answers are {times:.1f} times as noisy as with a baseline that knows the problem (limit {WEAK:g})",
        "Take algo.baseline=leave_one_out with algo.k=2 or more, or raise algo.k.",
        {"times": times, "weight_square": square, "weight_variance": variance}, {"times": WEAK},
        "the baseline fits")


def nothing_to_gain(run: Course) -> Verdict:
    greedy, best, spread = (run.first(name) for name in ("decoded_reward", "sample_best", "sample_spread"))
    full, alike = greedy > CEILING, best - greedy < GAIN and spread < ALIKE
    why = f"before training greedy answers earned {greedy:.3f} (limit {CEILING}), the best of a few samples {best:.3f} " \
          f"(limit +{GAIN}) at a spread of {spread:.3f} (limit {ALIKE})"
    return Verdict(
        "nothing to gain", run.rewarded and (full or alike), why,
        "The reward is at its end: take a stricter one, or harder problems." if full else
        "Samples hold nothing better than what is decoded already: draw wider (algo.temperature=1.3), draw more (algo.k), or "
        "stop pretraining earlier.", {"decoded_reward": greedy, "sample_best": best, "spread": spread},
        {"decoded_reward": CEILING, "best": GAIN, "spread": ALIKE}, f"the best of a few samples earned {best:.3f} at first")


def not_finite(run: Course) -> Verdict:
    skipped, updates = run.last("skipped"), run.last("updates")
    share = skipped / max(updates, 1)
    return Verdict(
        "steps left out", share > SKIPPED,
        f"{skipped:.0f} of {updates:.0f} updates had a loss or gradient that is no finite number (limit {SKIPPED:.0%})",
        "Lower plan.finetune.lr or plan.finetune.clip, or take precision=fp32.", {"skipped": skipped, "share": share},
        {"share": SKIPPED}, f"{skipped:.0f} of {updates:.0f} steps left out" if skipped else "every gradient was finite")


def _has(run: Course, name: str) -> bool:
    return any(look.get(name) is not None for look in run.looks)


RULES: tuple[Callable[[Course], Verdict], ...] = (
    no_spread, far_below_greedy, peaking, collapse, length_drift, kl_alarm, off_policy_drift, too_fast, still, weak_baseline,
    nothing_to_gain, not_finite)


def verdicts(run: Course) -> list[Verdict]:
    """All verdicts that a run has the numbers for, in the order of RULES."""
    found = []
    for rule in RULES:
        try:
            found.append(rule(run))
        except KeyError:                       # not said by this run: no rewards, or an older version
            continue
    return found
