"""`phasewatt-agent serve`: the daemon."""

from __future__ import annotations

import argparse

from agent.commands import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The settings."""
    options.add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Live until told to end."""
    from agent.control import Control, RunRequest
    from agent.measuring import Tell
    from agent.station import Station
    from agent.stopping import Stop
    from agent.telemetry import Telemeter

    settings = options.settings_of(args)
    stop = Stop()
    stop.on_signals()
    station = Station(args.state_dir, settings, sends_telemetry=True)
    telemeter = Telemeter(
        station.host,
        station.outbox,
        station.notify,
        settings.telemetry_interval_s,
        meter_names=station.meter_names,
        audience=station.audience,
    )

    def execute(request: RunRequest, tell: Tell, stop: Stop) -> None:
        with telemeter.suspended():
            station.execute(request, tell, stop)

    control = Control(args.state_dir, execute)
    telemeter.start()
    control.start()
    where = settings.broker.address or "no broker: records wait in the outbox"
    print(f"agent ready: device {station.host.device}, broker {where}", flush=True)
    stop.wait()
    control.stop()
    telemeter.stop()
    station.close()
    return 0
