"""`phasewatt-agent serve`: the daemon."""

from __future__ import annotations

import argparse
import faulthandler
import os

from agent.commands import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The settings."""
    options.add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Live until told to end."""
    import threading

    from agent import service_manager
    from agent.campaigns import Campaigns
    from agent.control import Control, RunRequest
    from agent.job_worker import JobWorker
    from agent.measuring import Tell
    from agent.station import Station
    from agent.stopping import Stop
    from agent.telemetry import Telemeter
    from agent.watchdog import SUITE_S, TELEMETRY_S, Progress, Watchdog

    settings = options.settings_of(args)
    faulthandler.enable()  # a watchdog ends what hangs by SIGABRT: its log then says where each thread was
    stop = Stop()
    stop.on_signals()
    manager, progress = service_manager.asked_for(os.environ), Progress()
    station = Station(args.state_dir, settings, sends_telemetry=True, takes_jobs=True, watched=progress)
    telemeter = Telemeter(
        station.host,
        station.outbox,
        station.notify,
        settings.telemetry_interval_s,
        meter_names=station.meter_names,
        audience=station.audience,
        first_batch_s=0.0,
        beat=progress.part("telemetry", TELEMETRY_S),
    )

    def execute(request: RunRequest, tell: Tell, stop: Stop, campaigns: Campaigns | None = None) -> None:
        with telemeter.suspended(), progress.during("suite", SUITE_S) as stop.paused:
            station.execute(request, tell, stop, campaigns)

    busy = threading.Lock()
    control = Control(args.state_dir, execute, busy)
    worker = JobWorker(station, settings.jobs, execute, busy)
    telemeter.start()
    control.start()
    worker.start()
    where = settings.broker.address or "no broker: records wait in the outbox"
    print(f"agent ready: device {station.host.device}, broker {where}", flush=True)
    manager.ready(f"device {station.host.device}, broker {where}")
    watchdog = Watchdog(manager, progress)
    watchdog.start()
    stop.wait()
    manager.stopping()
    worker.stop()
    watchdog.stop()
    control.stop()
    telemeter.stop()
    station.close()
    return 0
