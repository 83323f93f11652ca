"""Over TLS bytes are read and sent in small pieces; a certificate that nobody vouches for ends the call."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from heavylift_client import Client, ClientError
from heavylift_client.transport import Transport
from tests.client.conftest import FastClock

x509 = pytest.importorskip("cryptography.x509", reason="makes the certificate")
MIB = 1 << 20


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1, made now."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[tuple[str, list[bytes]]]:
    """A TLS server that takes PUTs on one connection after the other: (url, bodies)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    bodies: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    answer_puts(connection)
            except (OSError, ValueError):
                continue

    def answer_puts(connection: ssl.SSLSocket) -> None:
        stream = connection.makefile("rb")
        while head := stream.readline():
            length = 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            bodies.append(head.split()[0] + b" " + stream.read(length))
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}", bodies
    listener.shutdown(socket.SHUT_RDWR)  # wakes accept
    listener.close()
    thread.join(5)


def test_parts_over_tls(server: tuple[str, list[bytes]], certificate: Path, tmp_path: Path) -> None:
    """Ranges of the file arrive as they are, several on one connection."""
    url, bodies = server
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * MIB))
    transport = Transport(timeout_s=10, ssl_context=ssl.create_default_context(cafile=certificate))
    sent: list[int] = []
    fd = os.open(path, os.O_RDONLY)
    try:
        replies = [
            transport.put_range(f"{url}/key", {"x": "y"}, fd, offset, size, sent.append)
            for offset, size in ((0, 3 * MIB), (MIB + 1, 1_000_001), (5, 0))
        ]
    finally:
        os.close(fd)
        transport.close()
    data = path.read_bytes()

    assert [reply.status for reply in replies] == [200, 200, 200]
    assert bodies == [b"PUT " + data, b"PUT " + data[MIB + 1 : MIB + 1_000_002], b"PUT "]
    assert sum(sent) == 3 * MIB + 1_000_001


def test_a_certificate_that_nobody_vouches_for(server: tuple[str, list[bytes]]) -> None:
    """An error in words, at once: waiting does not make it better."""
    url, bodies = server
    with Client(url, "token", clock=FastClock()) as client, pytest.raises(ClientError) as raised:
        client.stats()

    assert raised.value.code == "certificate"
    assert bodies == []
