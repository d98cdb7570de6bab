"""A self-signed certificate for 127.0.0.1, made at run time by `openssl`."""

import subprocess
from pathlib import Path


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a day-long certificate and its key into `folder`.

    Returns:
        The paths of the certificate and of the key, both PEM.

    Raises:
        RuntimeError: the `openssl` program is missing or refused.
    """
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        message = "the TLS benchmarks need a working `openssl` program"
        raise RuntimeError(message) from exc
    return certificate, key
