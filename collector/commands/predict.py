"""`predict`: what a workload that was never run would take, from the trials there are."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from collector import reference
from collector.commands import flags, table
from collector.numbers import quantity
from collector.store import TrialQuery, open_store
from collector.stored import StoredTrial
from phasewatt.errors import ConfigInvalid

if TYPE_CHECKING:
    from collector.prediction import Estimate, Forecast
    from collector.transfer import Transferred

_HEADERS = ("GROUP", "MODEL", "TTFT", "DURATION", "DEVICE BUSY", "ENERGY", "SCOPE", "TRIALS")
_TRANSFER_HEADERS = ("DEVICE", "MODEL", "TTFT", "DURATION", "FROM", "TIMES AS FAST")
_NOTHING = "no trial here went well; run `phasewatt-agent run input-sweep`, or take --reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The workload, and whose trials are asked."""
    parser.add_argument("--prompt-tokens", type=flags.positive, metavar="N", help="tokens in, a sequence")
    parser.add_argument("--output-tokens", type=flags.positive, metavar="N", help="tokens out, a sequence")
    parser.add_argument(
        "--check", action="store_true", help="instead: how far predictions are off at lengths that they were not shown"
    )
    parser.add_argument("--batch", type=flags.positive, default=1, metavar="N", help="sequences at a time (default: 1)")
    for name in ("device", "suite", "model", "engine"):
        parser.add_argument(f"--{name}", help=f"from trials of this {name} only")
    parser.add_argument("--reference", action="store_true", help="from the trials that come with phasewatt instead")


def run(args: argparse.Namespace) -> int:
    """Print the forecasts, or how far off they are at lengths that were left out.

    Raises:
        ConfigInvalid: no trial to predict from, or no workload.
    """
    if args.check:
        return _check(args)
    from collector.prediction import Asked, forecasts
    from collector.transfer import transferred

    if args.prompt_tokens is None or args.output_tokens is None:
        raise ConfigInvalid("predict: expected --prompt-tokens and --output-tokens, or --check")
    asked = Asked(args.prompt_tokens, args.output_tokens, args.batch)
    trials = _trials(args)
    found = forecasts(trials, asked)
    if not found:
        raise ConfigInvalid(_NOTHING)
    estimates = transferred([*trials, *_ceilings(args)], asked)
    if args.json:
        _print({"schema": "predict/0", **asked._asdict(), "forecasts": found, "transferred": estimates})
    else:
        _show(found)
        _show_transferred(estimates)
    return 0


def _check(args: argparse.Namespace) -> int:
    from collector.held_out import held_out

    found = held_out(_trials(args))
    if not found:
        raise ConfigInvalid(_NOTHING)
    if args.json:
        _print({"schema": "predict-check/0", "fits": found})
        return 0
    from collector.report import prediction_words

    table.show_sheet(prediction_words.check(found))
    print(f"\n{prediction_words.RULE}")
    return 0


def _show_transferred(found: Iterable[Transferred]) -> None:
    """Apart from the forecasts, so that nobody takes one for the other."""
    rows = list(found)
    if not rows:
        return
    print(
        "\nESTIMATES, of devices with ceilings and no trial of the model: from another device, by the ratio of ceilings"
    )
    table.show(_TRANSFER_HEADERS, map(_transfer_cells, rows), "")
    for reason in dict.fromkeys(f"{row.device}: no estimate: {row.ttft_s.reason}" for row in rows if row.ttft_s.reason):
        print(reason)
    print(f"Their intervals are wide because {rows[0].why}. Energy: {rows[0].energy_j.reason}.")


def _transfer_cells(row: Transferred) -> tuple[object, ...]:
    ratios = ", ".join(f"{name} {ratio:.3g}x" for name, ratio in row.ratios.items())
    return row.device, row.model, _worded(row.ttft_s, "s"), _worded(row.duration_s, "s"), row.source, ratios


def _print(answer: dict[str, Any]) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(answer)).decode())


def _trials(args: argparse.Namespace) -> list[StoredTrial]:
    query = TrialQuery(device=args.device, suite=args.suite, model=args.model, engine=args.engine)
    if args.reference:
        return reference.load().matching(query)
    with contextlib.closing(open_store(args.db)) as store:
        return store.trials(query)


def _ceilings(args: argparse.Namespace) -> list[StoredTrial]:
    """Trials that measured ceilings, of every device: they have no model and no engine that could be asked for."""
    from collector.machine_ceilings import with_ceilings

    if args.reference:
        return with_ceilings(reference.load().trials)
    with contextlib.closing(open_store(args.db)) as store:
        return with_ceilings(store.trials(TrialQuery()))


def _show(found: Sequence[Forecast]) -> None:
    from collector.report import prediction_words

    table.show(_HEADERS, map(_cells, found), _NOTHING)
    fits = prediction_words.fits(found)
    if fits.rows:
        print()
        table.show_sheet(fits)
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
        _worded(forecast.device_s, "s"),
        _worded(forecast.energy_j, "J"),
        None if forecast.scope is None or forecast.energy_j.value is None else forecast.scope.value,
        forecast.trials,
    )


def _worded(estimate: Estimate, unit: str) -> str | None:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    return f"{quantity(estimate.value, unit)} [{quantity(estimate.low, unit)}, {quantity(estimate.high, unit)}]"
