"""Certificates for servers and clients of a test, by the openssl on the PATH."""

import shutil
import subprocess
from pathlib import Path

from tests.services import missing


class Authority:
    """Signs certificates; whoever trusts `certificate` trusts them."""

    def __init__(self, folder: Path) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            missing("there is no openssl on the PATH to make certificates with")
        self._openssl = openssl
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._run(
            "req", "-x509", *_NEW_KEY, "-days", "2", "-subj", "/CN=authority of a test",
            "-keyout", self._key, "-out", self.certificate,
        )  # fmt: skip

    def sign(self, name: str) -> tuple[Path, Path]:
        """A certificate for `name`, which has the form ``DNS:host`` or ``IP:address``; its key."""
        stem = self._folder / name.replace(":", "-")
        key, request, names = (stem.with_suffix(s) for s in (".key", ".csr", ".ext"))
        certificate = stem.with_suffix(".pem")
        names.write_text(f"subjectAltName={name}\n")
        self._run("req", *_NEW_KEY, "-subj", "/CN=test", "-keyout", key, "-out", request)
        self._run(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
            "-CAcreateserial", "-days", "2", "-extfile", names, "-out", certificate,
        )  # fmt: skip
        return certificate, key

    def _run(self, *arguments: str | Path) -> None:
        subprocess.run([self._openssl, *arguments], check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
