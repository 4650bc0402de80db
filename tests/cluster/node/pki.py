"""A certificate authority for one life of a node, and a kubeconfig for everybody who talks to its API server."""

import base64
import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.node.place import API_SERVICE, NODE_NAME, Node

_VALID = datetime.timedelta(days=30)
_CLIENTS = {  # file name: user, group
    "admin": ("headrace-admin", "system:masters"),
    "apiserver-to-kubelet": ("kube-apiserver", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
}


def write(node: Node) -> None:
    """Everything that proves who is who, in the node's state folder, readable by root only."""
    authority = _Authority(node.state)
    server = [x509.IPAddress(ipaddress.ip_address(address)) for address in (node.address, API_SERVICE, "127.0.0.1")] + [
        x509.DNSName(name) for name in ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
    ]
    authority.issue("apiserver", "kube-apiserver", "", server)
    authority.issue("kubelet-server", NODE_NAME, "", [x509.IPAddress(ipaddress.ip_address(node.address))])
    for name, (user, group) in _CLIENTS.items():
        authority.issue(name, user, group, [])
        _write(node.state / f"{name}.kubeconfig", yaml.safe_dump(_kubeconfig(node, name)).encode())
    _write_key(node.state / "service-accounts.key", ec.generate_private_key(ec.SECP256R1()))


class _Authority:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject("headrace-node-ca", "")
        certificate = (
            _builder(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        _write(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, user: str, group: str, addresses: Sequence[x509.GeneralName]) -> None:
        """A key and a certificate: a server's if it has addresses, else a client's."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if addresses else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _builder(_subject(user, group), self._name, key).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if addresses:
            builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        _write(self._folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
        _write_key(self._folder / f"{name}.key", key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _VALID)
    )


def _subject(user: str, group: str) -> x509.Name:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    return x509.Name([*names, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else names)


def _kubeconfig(node: Node, name: str) -> dict[str, object]:
    def data(file: str) -> str:
        return base64.b64encode((node.state / file).read_bytes()).decode()

    server = {"server": f"https://{node.address}:6443", "certificate-authority-data": data("ca.crt")}
    user = {"client-certificate-data": data(f"{name}.crt"), "client-key-data": data(f"{name}.key")}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": node.name, "cluster": server}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": node.name, "context": {"cluster": node.name, "user": name}}],
        "current-context": node.name,
    }


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    none = serialization.NoEncryption()
    _write(path, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, none))


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
