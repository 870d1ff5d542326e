"""When a schedule is due: cron expressions in a stated time zone, as Debian's cron reads them. Pure.

The centre's clock judges, never a board's. Where clocks are put back or forward, an hour that is missing or comes twice
is treated as Debian's cron does: work of a fixed hour is done once.
"""

from __future__ import annotations

import zoneinfo
from datetime import datetime, timedelta, timezone

from phasewatt.errors import ConfigInvalid

_FIELDS = 5


def check(cron: str, zone: str) -> None:
    """Raise ConfigInvalid where a cron expression or a time zone is none."""
    if len(cron.split()) != _FIELDS:
        raise ConfigInvalid(f"schedule.cron: expected five fields (minute hour day month weekday), got {cron!r}")
    from cronsim import CronSim, CronSimError

    try:
        next(CronSim(cron, datetime.now(_zone(zone))))
    except CronSimError as error:
        raise ConfigInvalid(f"schedule.cron: {error} in {cron!r}") from error
    except StopIteration as error:
        raise ConfigInvalid(f"schedule.cron: {cron!r} never comes") from error


def newest_due(cron: str, zone: str, after_unix_s: float, now_unix_s: float) -> float | None:
    """The newest moment of a schedule after `after_unix_s` and not after `now_unix_s`; None: there is none."""
    from cronsim import CronSim

    now = datetime.fromtimestamp(int(now_unix_s), _zone(zone))
    due = next(CronSim(cron, now + timedelta(seconds=1), reverse=True)).timestamp()
    return due if due > after_unix_s else None


def next_due(cron: str, zone: str, now_unix_s: float) -> float:
    """The first moment of a schedule after `now_unix_s`."""
    from cronsim import CronSim

    return next(CronSim(cron, datetime.fromtimestamp(now_unix_s, _zone(zone)))).timestamp()


def stamp(due_unix_s: float) -> str:
    """A moment as it stands in the name of an occurrence: the same in every collector."""
    return datetime.fromtimestamp(due_unix_s, timezone.utc).strftime("%Y%m%dT%H%MZ")


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigInvalid(
            f"schedule.timezone: no time zone {name!r}; expected a name such as Europe/Berlin"
        ) from error
