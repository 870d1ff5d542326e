"""`phasewatt-agent counters MODEL`: hardware counters by operator, of a pass by Nsight Compute or of its report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.commands import options
from phasewatt.errors import ConfigInvalid

if TYPE_CHECKING:
    from agent.counters.shot import Shot
    from phasewatt.records import Trial

_WORKLOADS = ("chat:512", "summary:4096")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the workloads, and where results go."""
    parser.add_argument("model", nargs="?", default="llama-3-8b", help="a preset, or a config.json (%(default)s)")
    parser.add_argument(
        "--workload",
        action="append",
        metavar="NAME:TOKENS",
        help=f"a prompt of so many tokens, then one decode step; repeatable (default: {', '.join(_WORKLOADS)})",
    )
    parser.add_argument("--layers", default="3", metavar="N|all", help="of the model that are counted (%(default)s)")
    parser.add_argument("--dtype", default="bfloat16", help="of weights and cache (%(default)s)")
    parser.add_argument(
        "--batch", type=options.positive, default=1, metavar="N", help="sequences at a time (%(default)s)"
    )
    parser.add_argument("--attention", default="sdpa", help="sdpa or eager (%(default)s)")
    parser.add_argument("--weights", default="random:7", metavar="random:SEED", help="(%(default)s)")
    parser.add_argument("--fused-weights", action="store_true", help="one product for query, key and value")
    parser.add_argument("--limit-s", type=float, default=300.0, metavar="S", help="for each workload (%(default)s)")
    parser.add_argument("--ncu", type=Path, metavar="FILE", help="the program (default: looked for)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write reports, trials and an export file there")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="show a report that ncu wrote as CSV")
    parser.add_argument(
        "--prompt-tokens",
        type=options.positive,
        default=None,
        metavar="N",
        help="of the work in that report (not known)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, as docs/json.md describes it")
    options.add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Count, keep the trials in the outbox, and print the tables; 0 if everything was counted.

    Raises:
        ConfigInvalid: an option is wrong.
        EngineAbsent: ncu is not here, or not permitted.
    """
    if args.source is not None:
        return _show_report(args)
    trials = _counted(args, _shots(args))
    if args.json:
        _print_json({"schema": "counted/0", "trials": [_plain(trial) for trial in trials]})
    else:
        from agent.counters import screen

        for trial in trials:
            screen.show(trial.cell, trial.counters, trial.reason)
    return 0 if all(profile.operators for trial in trials for profile in trial.counters) else 1


def _show_report(args: argparse.Namespace) -> int:
    from agent.counters import profile, screen
    from agent.counters.report import parse
    from phasewatt import counter_metrics

    try:
        text = args.source.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigInvalid(f"--from: cannot read {args.source}: {error.strerror}") from error
    report = parse(text)
    capability = next((kernel.capability for kernel in report.kernels if kernel.capability), None)
    known = profile.Circumstances(
        tool_version=None,
        capability=capability,
        asked=counter_metrics.asked(counter_metrics.capability_of(capability)),
        depths=profile.depths_of(args.prompt_tokens or 0),
        notes=() if args.prompt_tokens else ("imported: the depths of the cache are not known",),
    )
    found = profile.profiles(report, known)
    if args.json:
        _print_json({"schema": "counted/0", "profiles": [_profile(each) for each in found]})
    else:
        screen.show(str(args.source), found, None)
    return 0 if any(each.operators for each in found) else 1


def _shots(args: argparse.Namespace) -> list[Shot]:
    from agent import models
    from agent.counters.run import Workload
    from agent.counters.shot import Shot
    from agent.orders import Load, Prompt
    from phasewatt import roofline

    shape = models.named(args.model)
    roofline.element_bytes(args.dtype)
    kind, _, seed = args.weights.partition(":")
    if kind != "random" or not seed.isdecimal():
        raise ConfigInvalid(f"--weights: expected random:SEED, got {args.weights!r}")
    load = Load(
        architecture=shape,
        weights=args.weights,
        dtype=args.dtype,
        mode="eager",
        attention=args.attention,
        accelerator="cuda",
        fused_weights=args.fused_weights,
    )
    layers = _layers(args.layers)
    found = []
    for name, tokens in map(_workload, args.workload or _WORKLOADS):
        if tokens + 1 > shape.max_position:
            raise ConfigInvalid(f"--workload: {tokens} tokens and a step are more than {shape.max_position} positions")
        asked = Prompt(seed=1, batch=args.batch, tokens=tokens, threads=None, room=tokens + 2)
        found.append(Shot(name, Workload(load, asked, layers)))
    return found


def _counted(args: argparse.Namespace, shots: list[Shot]) -> list[Trial]:
    """Every workload counted, committed, and written where it was asked for."""
    from contextlib import closing

    from agent import archive
    from agent.archive import Source
    from agent.campaigns import Campaigns
    from agent.control import StateLock
    from agent.counters.counting import ready
    from agent.counters.run import Counting
    from agent.counters.shot import Begun, trial
    from agent.host import Host, device_id
    from agent.outbox import Outbox
    from agent.stopping import Stop

    settings = options.settings_of(args)
    tool = ready(args.ncu, Path(settings.root))
    if args.out is not None:
        _made(args.out)
    stop = Stop()
    stop.on_signals()
    trials = []
    with (
        closing(StateLock(args.state_dir)),
        closing(Outbox.open(args.state_dir, settings.outbox_cap_bytes)) as outbox,
    ):
        host, campaigns = Host(device_id(args.state_dir, settings.device)), Campaigns(outbox)
        campaign = campaigns.start_campaign("counters")
        counting = Counting(tool, stop, args.limit_s)
        for shot in shots:
            begun = Begun.now()
            outcome = counting.count(shot.workload)
            trials.append(trial(shot, outcome, host, campaign, begun))
            campaigns.commit_cell(campaign, shot.label, trials[-1].outcome, [trials[-1]])
            if args.out is not None:
                (args.out / f"{shot.name}.ncu.csv").write_text(outcome.text, encoding="utf-8")
                (args.out / f"{shot.name}.trial.json").write_bytes(_encoded(_plain(trials[-1])))
        campaigns.close_campaign(campaign)
        if args.out is not None:
            archive.write(Source(outbox, host.device, host.boot_id, host.clock()), args.out / "export.jsonl", campaign)
    return trials


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigInvalid(f"--out: cannot make {folder}: {error.strerror}") from error


def _layers(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigInvalid(f"--layers: expected a number above 0 or all, got {text!r}")
    return int(text)


def _workload(text: str) -> tuple[str, int]:
    name, _, tokens = text.rpartition(":")
    if not name.replace("-", "").replace("_", "").isalnum() or not tokens.isdecimal() or int(tokens) < 1:
        raise ConfigInvalid(f"--workload: expected NAME:TOKENS, as chat:512, got {text!r}")
    return name, int(tokens)


def _plain(trial: Trial) -> dict[str, Any]:
    """A trial as it is stored, with the rows of its tables."""
    import msgspec

    body: dict[str, Any] = msgspec.to_builtins(trial)
    return {"trial": body, "tables": [_profile(profile) for profile in trial.counters]}


def _profile(profile: Any) -> dict[str, Any]:
    import msgspec

    from phasewatt import counter_tables

    return {
        "phase": profile.phase.value,
        "reason": profile.reason,
        "missing": profile.missing,
        "rows": [msgspec.to_builtins(row) for row in counter_tables.rows(profile)],
    }


def _encoded(answer: dict[str, Any]) -> bytes:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(answer))


def _print_json(answer: dict[str, Any]) -> None:
    print(_encoded(answer).decode())
