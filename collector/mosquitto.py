"""The configuration of a mosquitto that keeps boards apart, written by what the authority holds.

It is of options that 2.0 and 2.1 share. 2.1 says that acl_file and password_file will go in 3.0, and takes them.

Two listeners. On that of boards, the certificate or password is the user name, and the user name is the client id,
whatever a client asks for: so no board takes the place of another one's session. On that of the centre another
authority is trusted, and client ids are free, since collectors and watchers have several.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
from collections.abc import Iterator
from pathlib import Path

from collector import private_file, rights
from collector.authority import Authority, Plan
from phasewatt import codec, topics
from phasewatt.errors import ConfigInvalid

CONFIG = "mosquitto.conf"
PID = "mosquitto.pid"
MOST_BOARDS = 5000  # connections at once
_MOST_OF_THE_CENTRE = 100
# Above payload and topic: what MQTT 5 may put around them.
PACKET_BYTES = codec.MAX_PAYLOAD_BYTES + topics.LONGEST + 4096
_QUEUED_BYTES = 64 * 2**20


def write(plan: Plan, authority: Authority) -> Path:
    """All files of the broker, whole and anew, in the plan's folder; the path of the configuration.

    Raises:
        ConfigInvalid: the folder cannot be written.
    """
    folder = Path(plan.folder)
    private_file.make_folder(folder)
    _make_data_folder(folder)
    server = authority.server()
    private_file.write(folder / "server.key", server.key)
    private_file.write(folder / "server.pem", server.certificate, private_file.SHOWN)
    private_file.write(folder / "boards.pem", authority.boards.certificate, private_file.SHOWN)
    private_file.write(folder / "centre.pem", authority.centre.certificate, private_file.SHOWN)
    private_file.write(folder / "acl", rights.access_list().encode(), private_file.SECRET)
    write_who(plan, authority)
    config = folder / CONFIG
    private_file.write(config, configuration(plan).encode(), private_file.SHOWN)
    return config


def write_who(plan: Plan, authority: Authority, shut_out: frozenset[str] = frozenset()) -> None:
    """The files that change when a board is enrolled or revoked; those `shut_out` are as if they were revoked.

    Raises:
        ConfigInvalid: the folder cannot be written.
    """
    folder = Path(plan.folder)
    private_file.write(folder / "revoked.pem", authority.revoked(shut_out), private_file.SHOWN)
    if plan.by_password:
        lines = [
            f"{device}:{hashed}\n" for device, hashed in authority.enrolled().passwords() if device not in shut_out
        ]
        private_file.write(folder / "passwords", "".join(lines).encode())


def tell(plan: Plan) -> bool:
    """Have the broker that runs on this host read its files again; whether there is one.

    Raises:
        ConfigInvalid: it belongs to another user.
    """
    pid = running(plan)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise ConfigInvalid(
            f"the broker (process {pid}) is another user's: its files are written; now kill -HUP {pid} as that user"
        ) from error
    return True


def running(plan: Plan) -> int | None:
    """The process of the broker that runs with this configuration on this host."""
    folder = Path(plan.folder)
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / PID).read_text(encoding="ascii"))
        if os.fsencode(folder / CONFIG) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return pid
    return None


def configuration(plan: Plan) -> str:
    """The text of mosquitto.conf."""
    return "\n".join([*_general(plan), "", *_of_boards(plan), "", *_of_the_centre(plan), ""])


def _general(plan: Plan) -> Iterator[str]:
    folder = Path(plan.folder)
    yield "# Written by phasewatt-collector broker-config, which writes it anew. For mosquitto 2.0 and 2.1."
    yield f"user {pwd.getpwuid(folder.stat().st_uid).pw_name}"
    yield f"pid_file {folder / PID}"
    yield "persistence true"
    yield f"persistence_location {folder / 'data'}/"
    yield "log_dest stderr"
    yield "log_timestamp_format %Y-%m-%dT%H:%M:%S"
    # Refused messages are told of at the level `debug` alone.
    yield from (f"log_type {level}" for level in ("error", "warning", "notice", "information", "debug"))
    yield "allow_anonymous false"
    yield f"acl_file {folder / 'acl'}"
    if plan.by_password:
        yield f"password_file {folder / 'passwords'}"
    yield f"max_packet_size {PACKET_BYTES}"
    yield "max_inflight_messages 20"
    yield "max_queued_messages 1000"
    yield f"max_queued_bytes {_QUEUED_BYTES}"
    yield "max_keepalive 600"
    yield "persistent_client_expiration 1d"  # phasewatt leaves no sessions behind; others must not pile up


def _of_boards(plan: Plan) -> Iterator[str]:
    yield "# Boards: who they are is proved, and is their client id too."
    yield from _listener(plan, plan.port, MOST_BOARDS)
    yield f"cafile {Path(plan.folder) / 'boards.pem'}"
    if not plan.by_password:
        yield f"crlfile {Path(plan.folder) / 'revoked.pem'}"
        yield "require_certificate true"
        yield "use_identity_as_username true"
    yield "use_username_as_clientid true"


def _of_the_centre(plan: Plan) -> Iterator[str]:
    yield "# Collectors: a certificate of their own authority."
    yield from _listener(plan, plan.centre_port, _MOST_OF_THE_CENTRE)
    yield f"cafile {Path(plan.folder) / 'centre.pem'}"
    yield "require_certificate true"
    yield "use_identity_as_username true"


def _listener(plan: Plan, port: int, connections: int) -> Iterator[str]:
    yield f"listener {port}" + ("" if plan.bind is None else f" {plan.bind}")
    yield f"max_connections {connections}"
    yield f"certfile {Path(plan.folder) / 'server.pem'}"
    yield f"keyfile {Path(plan.folder) / 'server.key'}"
    yield "tls_version tlsv1.2"  # at least


def _make_data_folder(folder: Path) -> None:
    data = folder / "data"
    private_file.make_folder(data)
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(data, owner.st_uid, owner.st_gid)
