"""The errors of phasewatt: one class for each reaction that a caller can have.

```text
PhasewattError
├── ConfigInvalid      a user's file or option is wrong: print the line, exit 2
├── Stopped            asked to end: keep what is whole, end
├── StateBusy          another agent holds the state directory: hand the work over, or exit
├── MeterUnavailable   this power source cannot be read here: try the next one
├── EngineFailed       this cell cannot be measured: record a failed trial, go on
│   ├── EngineAbsent   this engine is not installed here: record a skipped trial, go on
│   └── DoesNotFit     the model needs more memory than there is: record a skipped trial, go on
├── RecordRejected     these bytes are not a record of ours: quarantine them, go on
│   └── RecordNewer    of a schema that this version does not know yet: leave it to a later version
├── StoreUnavailable   the database cannot be opened or is not ours: print the line, exit
└── BrokerUnavailable  the broker cannot be reached, or does not let this user in: print the line, exit
```

The message is one line that names the thing and the remedy; entry points print it as it is.
"""

from __future__ import annotations


class PhasewattError(Exception):
    """Root of the tree; entry points print it as one line and exit with `exit_code`."""

    exit_code = 1


class ConfigInvalid(PhasewattError):
    """A file, an option or a name that a user gave is wrong; the message says which and what is expected."""

    exit_code = 2


class Stopped(PhasewattError):
    """The user or the system asked this to end; what was finished before is kept."""

    exit_code = 130


class StateBusy(PhasewattError):
    """Another process holds the lock of this state directory."""


class MeterUnavailable(PhasewattError):
    """A power source does not answer on this host, with the reason and, if there is one, the remedy."""


class EngineFailed(PhasewattError):
    """An engine could not load a model or run a phase; the other cells are not concerned."""


class EngineAbsent(EngineFailed):
    """An engine whose packages are not installed on this host; the message says how to install them."""


class DoesNotFit(EngineFailed):
    """The work needs more memory than is free; the message gives both figures."""


class RecordRejected(PhasewattError):
    """Bytes that are not a valid record or message of a known schema version."""


class RecordNewer(RecordRejected):
    """A record of a newer schema version; after an upgrade of this program it may be good."""


class StoreUnavailable(PhasewattError):
    """A database that cannot be opened, or that is not phasewatt's."""


class BrokerUnavailable(PhasewattError):
    """An MQTT broker that cannot be reached, or that does not let this user do what was asked."""
