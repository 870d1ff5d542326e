"""A server's own supply as its management controller tells it over Redfish: HTTPS with a verified certificate.

http.client keeps one connection open, since a handshake may cost a controller a second, and follows no redirect, so
that the password goes to no other host.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Callable
from contextlib import closing

from agent.meters.wall.json_fields import MAX_BYTES, values_in
from agent.meters.wall.latest import Latest
from agent.meters.wall.spec import Spec, address, ca_file, number, password, quantities
from phasewatt.errors import ConfigInvalid, MeterUnavailable

_TIMEOUT_S = 10.0
_EVERY_S = 2.0
_FORM = "redfish:https://HOST/redfish/v1/Chassis/ID/Power"
_POWER_NAMES = ("PowerControl.0.PowerConsumedWatts", "PowerWatts.Reading")  # Source: DMTF Power, EnvironmentMetrics
_REMEDIES = {
    401: "check user and password_file",
    403: "this user may not read it",
    404: "look up the chassis under /redfish/v1/Chassis",
}


class Redfish:
    """See `Source`; the body is the URL of a Power or EnvironmentMetrics resource."""

    keys = frozenset({"user", "password_file", "ca_file", "power", "energy", "energy_unit", "every"})
    silence = "it answers without a power reading; name the field by power=PATH, or another resource"

    def __init__(self, spec: Spec) -> None:
        parts = address(spec, _FORM)
        if parts.scheme != "https" or not parts.path.strip("/") or parts.username is not None:
            raise ConfigInvalid(f"external: expected {_FORM} (the user goes into user=NAME), got {spec.body!r}")
        self._host, self._port, self._path = parts.hostname or "", parts.port or 443, parts.path
        self._every_s = number(spec, "every", 0.5, 60) or _EVERY_S
        self._headers = {"Accept": "application/json", "OData-Version": "4.0", **_authorization(spec)}
        self._context = _trusting(ca_file(spec))
        self.quantities = quantities(spec, _POWER_NAMES)

    def follow(self, latest: Latest, wait: Callable[[float], bool]) -> None:
        """See `Source.follow`."""
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_S, context=self._context)
        with closing(connection):
            while True:
                values = values_in(self._answer(connection), self.quantities, latest)
                if self.quantities[0].unit == "W" and values[0] == 0:
                    latest.drop("0 W of a host that runs: its controller does not measure power")
                    values[0] = None
                latest.take(values)
                if wait(self._every_s):
                    return

    def _answer(self, connection: http.client.HTTPSConnection) -> bytes:
        """The body of one answer, or what shows that it is too long."""
        try:
            try:
                return self._get(connection)
            except ConnectionError:  # the controller let go of the connection meanwhile
                connection.close()
                return self._get(connection)
        except ssl.SSLCertVerificationError as error:
            why = f"its certificate is not trusted ({error.verify_message}); name its authority by ca_file=FILE"
            raise MeterUnavailable(why) from error
        except (OSError, http.client.HTTPException) as error:
            raise MeterUnavailable(
                f"no answer ({str(error) or type(error).__name__}); check host and network"
            ) from error

    def _get(self, connection: http.client.HTTPSConnection) -> bytes:
        connection.request("GET", self._path, headers=self._headers)
        with connection.getresponse() as response:
            body = response.read(MAX_BYTES + 1)
            if len(body) > MAX_BYTES:
                connection.close()
        if response.status != http.client.OK:
            remedy = _REMEDIES.get(response.status, "look at its log")
            raise MeterUnavailable(f"answers with status {response.status}; {remedy}")
        return body


def _authorization(spec: Spec) -> dict[str, str]:
    user = spec.options.get("user")
    secret = password(spec, user)
    if user is None:
        return {}
    if secret is None:
        raise ConfigInvalid("external.password_file: expected beside user")
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode("ascii")}


def _trusting(file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=file)
    except OSError as error:
        raise ConfigInvalid(f"external.ca_file: expected certificates in PEM, got {file!r}: {error}") from error
    # On by default from Python 3.13 on; the certificates of controllers lack the key identifiers that it wants.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
