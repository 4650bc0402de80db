"""What the evidence of a rollout finds, by simulation: python -m benchmarks.rollout.power prints it as Markdown.

The first table holds a bad version at one step and looks at it again and again; the second one rolls it out by
conf/rollout/default.yaml but without its shadow, where a step is over as soon as nothing speaks against it. Both ask
`next_action`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
import yaml
from pydantic import TypeAdapter

from benchmarks.rollout.simulation import NEW, QUARTERS, TWENTIETHS, End, Rates, Version, expected, roll_out
from headrace.domain.rollout import Seen, begin, next_action
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.sequences import Tally

POLICY = Path(__file__).parents[2] / "conf/rollout/default.yaml"
REQUESTS_PER_S = 200
LONGEST = 5_000
_SEED = 2013
_TIMES = 100
_ROLLOUTS = 300
_LOOKS = sorted({round(1.1**power) for power in range(90)} | {LONGEST})


@dataclass(frozen=True)
class Degradation:
    """What is wrong with a version; `edges` are those of the score histogram, where the scores matter."""

    what: str
    stable: Rates
    new: Rates
    edges: tuple[float, ...] = ()


DEGRADATIONS = (
    *(Degradation(f"errors 0.5 → {100 * bad:g} %", Rates(0.005), Rates(bad)) for bad in (0.02, 0.05, 0.2, 1.0)),
    *(Degradation(f"slow answers 1 → {100 * bad:g} %", Rates(slow=0.01), Rates(slow=bad)) for bad in (0.1, 0.3, 1.0)),
    *(Degradation(f"bad outputs 0 → {100 * bad:g} %", Rates(), Rates(bad_outputs=bad)) for bad in (0.01, 0.05)),
    *(
        Degradation(f"{100 * share:g} % of scores 0.5 too high", Rates(), Rates(shift=share), TWENTIETHS)
        for share in (0.2, 0.5)
    ),
)
ALIKE = {
    "0.5 % errors, 1 % slow, 1 % fallbacks": Rates(0.005, 0.01, fallbacks=0.01),
    "2 % errors, 3 % slow, 1 % fallbacks": Rates(0.02, 0.03, fallbacks=0.01),
}


def table() -> str:
    """Both tables and what goes before them, as Markdown."""
    policy = TypeAdapter(RolloutPolicy).validate_python(yaml.safe_load(POLICY.read_text()))
    return "\n".join([*_held_table(policy), "", *_rollout_table(policy)])


def _held_table(policy: RolloutPolicy) -> Iterator[str]:
    yield (
        f"Held at one step of the default policy for up to {LONGEST:,} answers of the new version, with more and more "
        f"between two looks ({len(_LOOKS)} in all), {_TIMES} times each: the share that was taken back on evidence, "
        "and after how many of its answers (median; nine of ten)."
    )
    yield ""
    yield f"| a version with | {' | '.join(step.describe() for step in policy.steps)} |"
    yield f"| --- |{' ---: |' * len(policy.steps)}"
    for row, one in enumerate(DEGRADATIONS):
        cells = [
            _told([held(policy, at, one, (_SEED, row, at, time)) for time in range(_TIMES)])
            for at in range(len(policy.steps))
        ]
        yield f"| {one.what} | {' | '.join(cells)} |"


def _told(answers: Sequence[float]) -> str:
    found = [one for one in answers if one < inf]
    if not found:
        return "0 %"
    ordered = sorted(answers)
    median, most = (ordered[round(share * (len(ordered) - 1))] for share in (0.5, 0.9))
    return f"{100 * len(found) / len(answers):.0f} % ({_count(median)}; {_count(most)})"


def _count(answers: float) -> str:
    return "-" if answers == inf else f"{answers:,.0f}"


def held(policy: RolloutPolicy, at: int, one: Degradation, seed: tuple[int, ...]) -> float:
    """How many answers of the new version it takes until it is taken back from a step; infinite when it is not."""
    random = np.random.default_rng(seed)
    ours, theirs = Version(one.new, random, one.edges), Version(one.stable, random, one.edges)
    began = begin(NEW, _endless(policy), expected(one.stable, one.edges), 0.0, (ours.counts, theirs.counts))
    state, step = replace(began, step=at, window=at), policy.steps[at]
    for answers in _LOOKS:
        came = answers - ours.answers
        ours.answer(came)
        theirs.answer(came if step.shadow_pct else round(came * (100 - step.weight_pct) / step.weight_pct))
        both = Tally(ours.disagreeing, ours.answers) if step.shadow_pct else None
        if next_action(state, Seen(ours.counts, theirs.counts, True, 0.0, both)).kind == "take back":
            return answers
    return inf


def _endless(policy: RolloutPolicy) -> RolloutPolicy:
    def endless(step: RolloutStep) -> RolloutStep:
        return replace(step, min_requests=LONGEST + 1)

    return replace(policy, steps=tuple(map(endless, policy.steps)))


def _rollout_table(policy: RolloutPolicy) -> Iterator[str]:
    bold = replace(policy, steps=tuple(step for step in policy.steps if step.weight_pct))
    yield (
        f"Rolled out by the default policy without its shadow at {REQUESTS_PER_S} requests a second, {_ROLLOUTS} times "
        f"where both versions are alike, else {_TIMES} times: the share taken back on evidence, taken back at a step's "
        "deadline because chance was not ruled out, and promoted; where most were taken back, at which step most often "
        "and the answers that clients had got from the new version (median; nine of ten). With the shadow, clients get "
        "none from a version that it finds."
    )
    yield ""
    yield "| a version with | on evidence | at a deadline | promoted | from | answers to clients |"
    yield "| --- | ---: | ---: | ---: | --- | ---: |"
    for row, (what, rates) in enumerate(ALIKE.items()):
        alike = Degradation(f"as the stable one: {what}", rates, rates, QUARTERS)
        yield _row(bold, alike, rolled_out(bold, alike, _ROLLOUTS, (_SEED, 100 + row)))
    for row, one in enumerate(DEGRADATIONS):
        yield _row(bold, one, rolled_out(bold, one, _TIMES, (_SEED, 200 + row)))


def rolled_out(policy: RolloutPolicy, one: Degradation, times: int, seed: tuple[int, ...]) -> list[End]:
    """How so many rollouts end."""
    random = np.random.default_rng(seed)
    return [roll_out(policy, one.stable, one.new, REQUESTS_PER_S, random, one.edges) for _ in range(times)]


def _row(policy: RolloutPolicy, one: Degradation, ends: Sequence[End]) -> str:
    back = [end for end in ends if not end.finished]
    evidence = sum(end.on_evidence for end in ends)
    shares = [evidence / len(ends), (len(back) - evidence) / len(ends), 1 - len(back) / len(ends)]
    cells = [one.what, *(f"{100 * share:.1f} %" for share in shares), "", ""]
    if len(back) > len(ends) / 2:
        steps = [end.step for end in back]
        exposed = sorted(end.exposed for end in back)
        median, most = (exposed[round(share * (len(exposed) - 1))] for share in (0.5, 0.9))
        cells[-2:] = [policy.steps[max(set(steps), key=steps.count)].describe(), f"{median:,}; {most:,}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table())
