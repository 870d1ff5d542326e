"""Certificates of the fleet: made here by `cryptography`, kept by `authority`. No files.

Keys are P-256: every TLS library of the last ten years takes them, and boards sign fast with them.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 20 * 365
_BACKDATED = datetime.timedelta(days=1)  # a board's clock may be behind by hours
_USAGES = ("digital_signature", "key_cert_sign", "crl_sign")
_OTHER_USAGES = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")


class Pair(NamedTuple):
    """A certificate and its key, both in PEM."""

    certificate: bytes
    key: bytes

    @property
    def serial(self) -> int:
        """What a list of revoked certificates names it by."""
        return x509.load_pem_x509_certificate(self.certificate).serial_number


def authority(name: str, now_unix_s: float) -> Pair:
    """A new authority, which trusts itself."""
    key = generate_private_key(SECP256R1())
    builder = _begun(name, name, key, now_unix_s, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
    return Pair(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def client(by: Pair, name: str, now_unix_s: float, days: float) -> Pair:
    """A certificate by which `name` proves who it is to a broker, and for nothing else."""
    return _leaf(by, name, now_unix_s, days, ExtendedKeyUsageOID.CLIENT_AUTH, ())


def server(by: Pair, hosts: Sequence[str], now_unix_s: float, days: float) -> Pair:
    """A certificate by which a broker proves that it is one of `hosts`, names or addresses."""
    return _leaf(by, hosts[0][:64], now_unix_s, days, ExtendedKeyUsageOID.SERVER_AUTH, hosts)


def revoked(by: Pair, serials: Iterable[int], now_unix_s: float) -> bytes:
    """The list of revoked certificates, in PEM.

    It holds for as long as its authority: a list that expires shuts out the whole fleet, and a new one is written
    whenever there is something to add.
    """
    signer = x509.load_pem_x509_certificate(by.certificate)
    now = _moment(now_unix_s)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.subject)
        .last_update(now - _BACKDATED)
        .next_update(signer.not_valid_after_utc)
        .add_extension(x509.CRLNumber(int(now_unix_s)), critical=False)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(_key(by), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _leaf(
    by: Pair, name: str, now_unix_s: float, days: float, purpose: x509.ObjectIdentifier, hosts: Sequence[str]
) -> Pair:
    signer = x509.load_pem_x509_certificate(by.certificate)
    key = generate_private_key(SECP256R1())
    issuer = signer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    issuer_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(_key(by).public_key())
    builder = _begun(name, str(issuer), key, now_unix_s, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage("digital_signature"), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    builder = builder.add_extension(issuer_key_id, critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general_name, hosts))), critical=False)
    return Pair(_pem(builder.sign(_key(by), hashes.SHA256())), _key_pem(key))


def _begun(
    name: str, issuer: str, key: EllipticCurvePrivateKey, now_unix_s: float, days: float
) -> x509.CertificateBuilder:
    now = _moment(now_unix_s)
    return (
        x509.CertificateBuilder()
        .subject_name(_distinguished(name))
        .issuer_name(_distinguished(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*wanted: str) -> x509.KeyUsage:
    chosen = {usage: usage in wanted for usage in _USAGES}
    return x509.KeyUsage(**chosen, **dict.fromkeys(_OTHER_USAGES, False), encipher_only=False, decipher_only=False)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _distinguished(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _moment(unix_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(unix_s), datetime.timezone.utc)


def _key(pair: Pair) -> EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pair.key, password=None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
