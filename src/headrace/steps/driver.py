"""Drives a rollout from what was written last to its end: looks, decides, and writes split and state in one go.

Whoever drives may be killed at any moment: another driver goes on from the Router's record. Several at once are
harmless, since every change is compared and swapped; the one that comes second reads again.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from headrace.domain import rollout as rollouts
from headrace.domain.findings import LOSS
from headrace.domain.rollout import Action, Look, RolloutState, Seen, split_of
from headrace.domain.rollout_policy import RolloutPolicy
from headrace.domain.split import describe
from headrace.errors import Conflict, HeadraceError, Unavailable
from headrace.ports import Platform, Route
from headrace.running import progress
from headrace.steps.watching import Clock, Watch, counts, expected, golden_rows

_TRIES = 100
# How long the proxy may be silent while something has to be written.
_PATIENCE_S = 60.0


def begin(platform: Platform, model: str, number: int, directory: Path, policy: RolloutPolicy, clock: Clock) -> Route:
    """Give a running version its first step, in the place of whatever older one is being tried.

    Returns:
        The route; as it was, when the version's rollout has begun already, or it or a newer one has all traffic.

    Raises:
        Conflict: a newer version is being tried, or the route is changed again and again.
    """
    for _ in range(_TRIES):
        route = _read(platform, model)
        stable = route.split.stable
        if stable >= number or (route.rollout is not None and route.rollout.version == number):
            return route
        give_way(route, number)
        beforehand = expected(platform, model, number, stable, directory)
        began = counts(platform, model, number, stable)
        state = rollouts.begin(number, policy, beforehand, clock.wall(), began)
        try:
            note = f"v{number} at {policy.steps[0].describe()}"
            return platform.router.write(model, split_of(state, route.split), route.generation, note, state)
        except Conflict:
            continue
    raise Conflict(f"the route of {model} is changed again and again; v{number} was given nothing, try once more")


def give_way(route: Route, number: int) -> None:
    """An older version is not tried in the place of a newer one.

    Raises:
        Conflict: a newer one is being tried.
    """
    other = route.rollout
    if other is not None and other.active and other.version > number:
        raise Conflict(f"v{other.version} of {route.model} is being tried, and is newer than v{number}")


def _read(platform: Platform, model: str) -> Route:
    route = platform.router.read(model)
    if route is None:
        raise Conflict(f"the route of {model} is gone: somebody removed it; roll out again")
    return route


@dataclass
class Driver:
    """Drives one rollout of a model."""

    platform: Platform
    model: str
    directory: Path
    clock: Clock
    _silent_since: float | None = field(default=None, init=False)

    def drive(self, route: Route) -> tuple[Route, RolloutState]:
        """Look and act until the rollout has ended, whoever ended it.

        Args:
            route: with an active rollout.

        Returns:
            The route after its end, and how it ended.

        Raises:
            Unavailable: what was decided can't be written; the record is as it was, and the next driver decides anew.
        """
        assert route.rollout is not None  # noqa: S101
        state = route.rollout
        watch = Watch(self.platform, self.model, golden_rows(self.directory), self.clock)
        said = ""
        while (current := _own(route, state)).active:
            state = current
            self._reconcile(route)
            seen = watch.look(route, state)
            action = rollouts.next_action(state, seen)
            self._note(route, state, action)
            if action.kind != "hold":
                self._write(route, state, action, seen)
            elif not watch.probe(state, route.split.stable, seen, _is_unclear(action)):
                if action.reason != said:
                    progress("deploy", f"{describe(route.split)}: {action.reason}")
                self.clock.sleep(state.policy.interval_s)
            said = action.reason
            route = _read(self.platform, self.model)
        return route, current

    def _reconcile(self, route: Route) -> None:
        """Put right what somebody changed by hand: the record says who has which share, and nothing else."""
        try:
            drifted = self.platform.router.drifted(self.model)
        except Unavailable:
            return  # nobody knows; what has to be written is written anyway
        if drifted is None:
            return
        note = f"put right: {drifted}"
        progress("deploy", note)
        try:
            self.platform.router.write(self.model, route.split, route.generation, note, route.rollout)
        except (Conflict, Unavailable) as failed:
            progress("deploy", f"not put right: {failed}")

    def _write(self, route: Route, state: RolloutState, action: Action, seen: Seen) -> None:
        after = self._after(route, state, action, seen)
        split = split_of(after, route.split)
        while True:
            try:
                self.platform.router.write(self.model, split, route.generation, action.reason, after)
            except Conflict:
                break  # somebody else was first, or it had been written: the record says which
            except Unavailable as failed:
                self._be_patient(failed, state.policy.interval_s)
                # What was decided against a version stands. Any other step is decided anew: it may have failed since.
                if action.kind != "take back":
                    return
            else:
                progress("deploy", f"{describe(split)}: {action.reason}")
                break
        self._silent_since = None

    def _be_patient(self, failed: Unavailable, interval_s: float) -> None:
        now = self.clock.now()
        if self._silent_since is None:
            self._silent_since = now
            progress("deploy", f"tried again for {_PATIENCE_S:g} s: {failed}")
        if now - self._silent_since >= _PATIENCE_S:
            raise failed
        self.clock.sleep(min(1.0, interval_s))

    def _after(self, route: Route, state: RolloutState, action: Action, seen: Seen) -> RolloutState:
        had = (seen.new, seen.stable)
        match action.kind:
            case "advance":
                return rollouts.advanced(state, self.clock.wall(), had, action.reason)
            case "renew":
                if state.new is None or state.stable is None:
                    # Without counters nobody knew at which scores to compare.
                    stable = route.split.stable
                    beforehand = expected(self.platform, self.model, state.version, stable, self.directory)
                    state = replace(state, expected=beforehand)
                return rollouts.renewed(state, had, action.reason)
            case _:
                return rollouts.ended(state, "taken back", action.reason)

    def _note(self, route: Route, state: RolloutState, action: Action) -> None:
        pct = route.split.weights.get(state.version, 0)
        look = Look(self.clock.wall(), state.current.describe(), describe(route.split), pct, action)
        try:
            self.platform.journal.append(self.model, state.key, look)
        except (OSError, HeadraceError) as failed:
            # A full disk must not keep a bad version in service.
            progress("deploy", f"not in the journal: {failed}")


def _is_unclear(action: Action) -> bool:
    """Whether more was seen than is allowed, of what probes can show: nobody labels them."""
    open_questions = [one for one in action.findings if one.outcome == "inconclusive" and one.difference is not None]
    return any(one.metric != LOSS for one in open_questions)


def _own(route: Route, before: RolloutState) -> RolloutState:
    """The state of a rollout in a route, which may be of another one by now."""
    now = route.rollout
    if now is not None and now.key == before.key:
        return now
    if now is None:
        return rollouts.ended(before, "superseded", route.note)
    other = f"v{now.version}" if now.version != before.version else "a later rollout of it"
    return rollouts.ended(before, "superseded", f"{other} took its place")
