"""`predict`: what a workload that was never run would take, from the trials there are."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from collector import reference
from collector.commands import table
from collector.numbers import quantity
from collector.store import TrialQuery, open_store
from collector.stored import StoredTrial
from phasewatt.errors import ConfigInvalid

if TYPE_CHECKING:
    from collector.prediction import Estimate, Forecast

_HEADERS = ("GROUP", "MODEL", "TTFT", "DURATION", "ENERGY", "SCOPE", "TRIALS")
_FIT_HEADERS = ("FIT", "OF", "LEFT-OUT ERROR", "95 %", "R2", "LENGTHS", "FORMULA")
_NOTHING = "no trial here went well; run `phasewatt-agent run input-sweep`, or take --reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The workload, and whose trials are asked."""
    parser.add_argument("--prompt-tokens", type=_positive, required=True, metavar="N", help="tokens in, a sequence")
    parser.add_argument("--output-tokens", type=_positive, required=True, metavar="N", help="tokens out, a sequence")
    parser.add_argument("--batch", type=_positive, default=1, metavar="N", help="sequences at a time (default: 1)")
    for name in ("device", "suite", "model", "engine"):
        parser.add_argument(f"--{name}", help=f"from trials of this {name} only")
    parser.add_argument("--reference", action="store_true", help="from the trials that come with phasewatt instead")


def run(args: argparse.Namespace) -> int:
    """Print the forecasts.

    Raises:
        ConfigInvalid: no trial to predict from.
    """
    from collector.prediction import Asked, forecasts

    asked = Asked(args.prompt_tokens, args.output_tokens, args.batch)
    found = forecasts(_trials(args), asked)
    if not found:
        raise ConfigInvalid(_NOTHING)
    if args.json:
        _print({"schema": "predict/0", **asked._asdict(), "forecasts": found})
    else:
        _show(found)
    return 0


def _print(answer: dict[str, Any]) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(answer)).decode())


def _trials(args: argparse.Namespace) -> list[StoredTrial]:
    query = TrialQuery(device=args.device, suite=args.suite, model=args.model, engine=args.engine)
    if args.reference:
        return reference.load().matching(query)
    with contextlib.closing(open_store(args.db)) as store:
        return store.trials(query)


def _show(found: Iterable[Forecast]) -> None:
    table.show(_HEADERS, map(_cells, found), _NOTHING)
    fits = [(forecast.group, fitted) for forecast in found for fitted in forecast.fits]
    if fits:
        print()
        table.show(
            _FIT_HEADERS,
            (
                (
                    group,
                    fitted.subject,
                    f"{max(abs(error) for error in fitted.left_out_errors.values()):.1%}",
                    f"±{fitted.half_width:.0%}",
                    f"{fitted.r2:.4f}",
                    ", ".join(map(str, fitted.lengths)),
                    f"{fitted.formula} {fitted.unit}",
                )
                for group, fitted in fits
            ),
            "",
        )
    for forecast in found:
        for remark in (*_reasons(forecast), *forecast.remarks):
            print(f"{forecast.group}: {remark}")


def _reasons(forecast: Forecast) -> list[str]:
    named = {"TTFT": forecast.ttft_s, "duration": forecast.duration_s, "energy": forecast.energy_j}
    said = [f"no {name}: {estimate.reason}" for name, estimate in named.items() if estimate.reason]
    return list(dict.fromkeys(said))


def _cells(forecast: Forecast) -> tuple[object, ...]:
    return (
        forecast.group,
        forecast.model,
        _worded(forecast.ttft_s, "s"),
        _worded(forecast.duration_s, "s"),
        _worded(forecast.energy_j, "J"),
        None if forecast.scope is None or forecast.energy_j.value is None else forecast.scope.value,
        forecast.trials,
    )


def _worded(estimate: Estimate, unit: str) -> str | None:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    return f"{quantity(estimate.value, unit)} [{quantity(estimate.low, unit)}, {quantity(estimate.high, unit)}]"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number
