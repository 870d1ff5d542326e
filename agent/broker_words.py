"""What went wrong with a broker, in words for an operator."""

from __future__ import annotations

import re
import socket
import ssl
import time

from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

# By reason code of MQTT 5, which has a name and no remedy. Source: MQTT 5.0, section 2.4.
_REMEDIES = {
    135: "let this user publish and read under phasewatt/v1/DEVICE in the broker's access list",
    142: "another client uses this board's name: give one of them another",
    149: "raise the broker's limits on messages and packets",
    150: "raise the broker's limit on the rate of messages",
    151: "raise this user's quota at the broker",
}

# What TLS says of a client's certificate, by the name of its alert. Source: RFC 8446, section 6.2.
_OF_OURS = {
    "CERTIFICATE_REVOKED": "it was revoked; if this board is meant to be let in, have it enrolled anew",
    "CERTIFICATE_EXPIRED": "it has expired; phasewatt-collector enroll DEVICE --renew, then join here",
    "CERTIFICATE_UNKNOWN": "it is not accepted; the broker's log says why",
    "BAD_CERTIFICATE": "it is not accepted; the broker's log says why",
    "UNKNOWN_CA": "its authority is another one; join with a bundle of this broker",
    "CERTIFICATE_REQUIRED": "there is none; phasewatt-collector enroll DEVICE, then join here",
}
_ALERT = re.compile(r"ALERT_(?P<alert>[A-Z_]+)")
_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


def of_tls(failure: str) -> str | None:
    """Why TLS ended after the handshake, by the words of OpenSSL; None: they say nothing of a certificate."""
    alert = _ALERT.search(failure)
    if alert is not None and alert["alert"] in _OF_OURS:
        return f"the broker refuses this board's certificate: {_OF_OURS[alert['alert']]}"
    if "EOF occurred" in failure:
        return "the broker hung up during TLS; it may refuse this board's certificate, its log says why"
    return None


def in_words(reason: ReasonCode, properties: Properties | None) -> str:
    """The broker's reason, what it adds in its own words, and the remedy where one is known."""
    own = getattr(properties, "ReasonString", None)
    remedy = _REMEDIES.get(reason.value)
    return str(reason).lower() + (f": {own[:200]}" if own else "") + (f"; {remedy}" if remedy else "")


def explained(error: Exception, patience_s: float) -> str:
    """Why no connection came about in `patience_s`, for an operator, with the remedy."""
    if isinstance(error, ssl.SSLCertVerificationError):
        today = time.strftime("%Y-%m-%d", time.gmtime())
        if error.verify_code == _NOT_YET_VALID:
            return f"TLS: by this board's clock ({today}) its certificate is not valid yet; set the clock"
        if error.verify_code == _EXPIRED:
            return f"TLS: its certificate has expired by this board's clock ({today}); renew it, or set the clock"
        return f"TLS: its certificate is not trusted ({error.verify_message}); check the CA file and the host name"
    if isinstance(error, ssl.SSLError):
        if (words := of_tls(str(error))) is not None:
            return words
        return f"TLS failed ({error.reason or error}); check that this port speaks TLS, and the certificate files"
    if isinstance(error, ConnectionRefusedError):
        return "refused; is the broker running, and is this its port?"
    if isinstance(error, socket.gaierror):
        return "the host name is not known; check it, or the network"
    if isinstance(error, TimeoutError):
        return f"no answer within {patience_s:.0f} s; check the address and the firewall"
    if isinstance(error, FileNotFoundError):
        return "TLS: a certificate file is missing; check the paths of CA, certificate and key"
    return f"cannot connect ({error}); check the address and the network"
