"""Claim 6: decode's share of a request's energy, and what the energy of requests depends on. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from collector.findings import bounds
from collector.findings.bounds import Bounds, above, below, between
from collector.findings.checks import Check, Verdict, unmeasured
from collector.findings.families import Family
from collector.findings.finding import Each, Judged
from collector.findings.pictures import Bar, Bars, Picture
from collector.findings.regression import Coefficient, standardised
from collector.findings.wanted import from_suite
from collector.numbers import quantity
from collector.stored import StoredTrial
from phasewatt.fields import Phase, Scope
from phasewatt.metrics import METRICS, Context, Readings
from phasewatt.scopes import own_scope

NUMBER = 6
SENTENCE = "Energy: decode has nearly all of it; output tokens nearly determine the total, input length hardly matters."
EACH = Each.MODEL
NEARLY_ALL = 0.9  # decode's share, and the coefficient of the output: at 0.9 it explains 81 % of the variance
HARDLY = 0.2  # the coefficient of the input: at 0.2 it explains 4 % of the variance
RULE = (
    "One sequence, gross energy of the narrowest scope around the processor, phases in windows of their own. The "
    "grid is the prompts that were asked for two answers or more, and two such prompts or more. Over all requests of "
    f"the grid together decode has at least {NEARLY_ALL:.0%} of the energy of prefill and decode; a request is one "
    "prefill and a decode step for each further token. The measured energy of requests, regressed on input and "
    "output tokens (least squares, two degrees of freedom or more), has a standardised coefficient of the output "
    f"above {NEARLY_ALL:g} and one of the input below {HARDLY:g}, each with its whole interval of 95 %. The gain of "
    "the sensor cancels."
)
_SHARE = "decode's share of the energy of all requests of the grid"
_OUTPUT = "standardised coefficient of output tokens"
_INPUT = "standardised coefficient of input tokens, without its sign"
_LEAST_FREEDOM = 2
_WANTED = from_suite(
    "metered requests, four prompts by three answers, with metered prefill and decode",
    "paper",
    "mode graph, prompt_tokens 128 to 2048, output_tokens 64 to 512, phases request; and its prefill and decode",
)
_GRID = tuple[int, int]  # tokens in, tokens out


class _Energies(NamedTuple):
    """Joules of one model on one scope."""

    scope: Scope | None
    requests: Mapping[_GRID, Bounds]
    points: tuple[tuple[int, int, float], ...]  # of each request trial: tokens in and out, joules
    prefills: list[tuple[float, Bounds]]
    tokens: list[tuple[float, Bounds]]  # by depth
    trials: tuple[StoredTrial, ...]

    def parts(self, asked: _GRID) -> tuple[Bounds, Bounds]:
        """Prefill and decode of a request."""
        prompt, output = asked
        depth = prompt + (output - 1) / 2
        return between(self.prefills, prompt), between(self.tokens, depth).times(output - 1)


def judge(families: Sequence[Family]) -> Judged:
    """From the trials of one model."""
    (family,) = families
    found = _energies(family)
    grid = _grid(found)
    coefficients = _regressed(found, grid)
    checks = (_share(found, grid), *_coefficients(coefficients))
    open_ = any(check.verdict is Verdict.NOT_ENOUGH_DATA for check in checks)
    return Judged(
        checks=checks,
        figure=_figure(checks, coefficients),
        missing=(_WANTED,) if open_ else (),
        basis=None if found.scope is None else f"gross energy of {found.scope.value}, {family.mode} mode",
        trials=found.trials,
        remarks=tuple(_remarks(found, grid, family)),
        picture=_picture(found, grid),
    )


def _energies(family: Family) -> _Energies:
    alone = [s for s in family.trials if s.trial.work is not None and s.trial.work.task.batch == 1]
    metered = {each.scope for s in alone for each in s.trial.energy if each.energy_j is not None}
    scope = own_scope(family.accelerator, metered)
    requests: defaultdict[_GRID, list[Readings]] = defaultdict(list)
    prefills: defaultdict[float, list[Readings]] = defaultdict(list)
    tokens: defaultdict[float, list[Readings]] = defaultdict(list)
    used = []
    for stored in alone if scope is not None else ():
        trial, work = stored.trial, stored.trial.work
        assert work is not None
        asked = (work.task.prompt_tokens, work.task.output_tokens)
        for phase, metric, into in _PHASES:
            readings = METRICS[metric].of(trial, Context(scope=scope))
            run = trial.run_of(phase)
            if run is None or not readings.values:
                continue
            used.append(stored)
            if into == "request":
                requests[asked].append(readings)
            elif into == "prefill":
                prefills[run.kv_end].append(readings)
            else:
                tokens[(run.kv_start + run.kv_end - 1) / 2 + run.deeper].append(readings)
    return _Energies(
        scope=scope,
        requests={
            asked: value
            for asked in sorted(requests)
            if (value := bounds.measured(requests[asked], f"request {asked}"))
        },
        points=tuple((*asked, r.values[0]) for asked in sorted(requests) for r in requests[asked]),
        prefills=_bounded(prefills, "prefill"),
        tokens=_bounded(tokens, "token"),
        trials=tuple({stored.record_id: stored for stored in used}.values()),
    )


_PHASES = (
    (Phase.REQUEST, "request_energy", "request"),
    (Phase.PREFILL, "prefill_energy", "prefill"),
    (Phase.DECODE, "decode_token_energy", "token"),
)


def _bounded(found: Mapping[float, Sequence[Readings]], name: str) -> list[tuple[float, Bounds]]:
    pairs = [(length, bounds.measured(found[length], f"{name} {length}")) for length in sorted(found)]
    return [(length, value) for length, value in pairs if value is not None]


def _grid(found: _Energies) -> list[_GRID]:
    """Requests whose prompts were asked for two answers or more; none where there is one such prompt alone."""
    answers: defaultdict[int, set[int]] = defaultdict(set)
    for prompt, output in found.requests:
        answers[prompt].add(output)
    several = {prompt for prompt, outputs in answers.items() if len(outputs) > 1}
    return [asked for asked in found.requests if asked[0] in several] if len(several) > 1 else []


def _share(found: _Energies, grid: Sequence[_GRID]) -> Check:
    if not grid or not found.prefills or not found.tokens:
        return unmeasured(_SHARE)
    parts = [found.parts(asked) for asked in grid]
    prefill, decode = parts[0]
    for more_prefill, more_decode in parts[1:]:
        prefill, decode = prefill.plus(more_prefill), decode.plus(more_decode)
    return above(_SHARE, decode.share(prefill), NEARLY_ALL)


def _regressed(found: _Energies, grid: Sequence[_GRID]) -> list[Coefficient] | None:
    """Of input and output."""
    points = [point for point in found.points if point[:2] in grid]
    if len(points) < _LEAST_FREEDOM + 3:
        return None
    return standardised([point[:2] for point in points], [point[2] for point in points])


def _coefficients(found: Sequence[Coefficient] | None) -> tuple[Check, Check]:
    if found is None:
        return unmeasured(_OUTPUT), unmeasured(_INPUT)
    of_input, of_output = found
    ends = sorted((abs(of_input.low), abs(of_input.high)))
    least = 0.0 if of_input.low <= 0 <= of_input.high else ends[0]
    return (
        above(_OUTPUT, Bounds(of_output.value, of_output.low, of_output.high), NEARLY_ALL, ""),
        below(_INPUT, Bounds(abs(of_input.value), least, ends[1]), HARDLY, ""),
    )


def _figure(checks: Sequence[Check], coefficients: Sequence[Coefficient] | None) -> str | None:
    share = checks[0]
    told = []
    if share.value is not None:
        told.append(f"decode has {share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of the grid's energy")
    if coefficients is not None:
        for name, each in zip(("input", "output"), coefficients, strict=True):
            told.append(
                f"{name}: standardised {each.value:.3f} [{each.low:.3f}, {each.high:.3f}], "
                f"{quantity(each.raw, 'J')} a token"
            )
    return "; ".join(told) or None


def _remarks(found: _Energies, grid: Sequence[_GRID], family: Family) -> list[str]:
    if found.scope is None:
        reasons = dict.fromkeys(stored.trial.energy_reason for stored in family.trials if stored.trial.energy_reason)
        return [f"no energy around the processor: {'; '.join(reasons) or 'only other scopes were metered'}"]
    said = []
    if family.mode == "eager" and family.accelerator != "cpu":
        said.append(
            "eager mode: where the host holds the device back, what the device draws meanwhile is in decode's energy"
        )
    if grid and found.prefills and found.tokens:
        ratios = [sum(part.value for part in found.parts(asked)) / found.requests[asked].value for asked in grid]
        said.append(
            f"prefill and decode by themselves are {min(ratios):.0%} to {max(ratios):.0%} of the requests' energy"
        )
    return said


def _picture(found: _Energies, grid: Sequence[_GRID]) -> Picture | None:
    asked = list(grid) or list(found.requests)
    if not asked or not found.prefills or not found.tokens:
        return None
    bars = []
    for each in asked:
        prefill, decode = found.parts(each)
        share = decode.share(prefill).times(100)
        bars.append(Bar(f"{each[0]:,} in, {each[1]:,} out", *share))
    return Bars("Decode's share of a request's energy", "%", tuple(bars), level=("nearly all", 100 * NEARLY_ALL))
