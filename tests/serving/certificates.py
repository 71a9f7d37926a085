"""A certificate, and the authority that signed it, made for one test."""

from pathlib import Path
from typing import NamedTuple

import trustme


class Certificate(NamedTuple):
    """The contents of three PEM files; the authority has signed the certificate."""

    certificate: str
    key: str
    authority: str


def make_certificate(folder: Path, *names: str) -> Certificate:
    """Makes a new one, and its files `certificate.pem`, `key.pem`, `authority.pem`.

    Args:
        folder: where to put the files.
        names: whom it is for; this machine where there are none.
    """
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
    (chain,) = issued.cert_chain_pems
    made = Certificate(
        certificate=chain.bytes().decode(),
        key=issued.private_key_pem.bytes().decode(),
        authority=authority.cert_pem.bytes().decode(),
    )
    for name, content in made._asdict().items():
        (folder / f"{name}.pem").write_text(content)
    return made
