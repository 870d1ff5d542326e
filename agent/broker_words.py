"""What went wrong with a broker, in words for an operator."""

from __future__ import annotations

import socket
import ssl

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


def in_words(reason: ReasonCode, properties: Properties | None) -> str:
    """The broker's reason, what it adds in its own words, and the remedy where one is known."""
    own = getattr(properties, "ReasonString", None)
    remedy = _REMEDIES.get(reason.value)
    return str(reason).lower() + (f": {own[:200]}" if own else "") + (f"; {remedy}" if remedy else "")


def explained(error: Exception, patience_s: float) -> str:
    """Why no connection came about in `patience_s`, for an operator, with the remedy."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: its certificate is not trusted ({error.verify_message}); check the CA file and the host name"
    if isinstance(error, ssl.SSLError):
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
