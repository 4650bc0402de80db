"""Whether a model directory is the one that the holder of a private key signed.

    python -m serving.signature DIRECTORY PUBLIC_KEY.pem

prints the sha256 of manifest.json that the signature vouches for. The signature is `model.sig` in the directory, as the
package model-signing writes it with an elliptic-curve key; it covers every other file.

Importing that package takes half a second and 50 MB, and it parses what nobody has verified yet. So a service calls
`signed_manifest_digest`, which does this in a process of its own.
"""

import argparse
import contextlib
import hashlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import DataError, HeadraceError, IntegrityError, UsageError

if TYPE_CHECKING:
    from model_signing._signing.sign_ec_key import Verifier

SIGNATURE = "model.sig"
_MANIFEST = "manifest.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROOT = Path(__file__).resolve().parents[1]

# A signature names each file with its digest: this is room for thousands.
_MAX_SIGNATURE_BYTES = 1024 * 1024

_AGAIN = "get it again from whoever signed it"


def signed_manifest_digest(directory: Path, public_key: Path) -> str:
    """Verify that the directory's signature is by this key, and over exactly the files that are there.

    Returns:
        The sha256, in hex, of manifest.json as it was signed. Compare it with the bytes that are parsed: the directory
        may change after it was verified, but what was signed does not.

    Raises:
        IntegrityError: there is no signature, it is not by this key, or the files are not those that were signed.
        UsageError: the key is none, or the packages of the extra `signing` are not installed.
        DataError: there is no such directory.
    """
    command = [sys.executable, "-m", "serving.signature", str(directory.absolute()), str(public_key.absolute())]
    # `-m` finds this package in the folder that it is in, whatever the working directory is.
    verifier = subprocess.run(
        command, cwd=_ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    digest = verifier.stdout.strip()
    if verifier.returncode == 0 and _SHA256.fullmatch(digest):
        return digest
    said = (verifier.stderr.strip().splitlines() or ["nothing"])[-1].removeprefix("headrace: ")
    for error in (UsageError, DataError, IntegrityError):
        if verifier.returncode == error.exit_code:
            raise error(said)
    raise IntegrityError(f"{directory} could not be verified: the verifier ended with {verifier.returncode}: {said}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the digest.

    Returns:
        The exit code: 0, or that of the error in `headrace.errors`.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.signature", description="Verify a signed model directory.")
    parser.add_argument("directory", type=Path, help=f"the model directory, with its signature in {SIGNATURE}")
    parser.add_argument("public_key", type=Path, help="the elliptic-curve public key, in PEM")
    options = parser.parse_args(arguments)
    try:
        print(_verify(options.directory, options.public_key))
    except HeadraceError as problem:
        print(f"headrace: {problem}", file=sys.stderr)
        return problem.exit_code
    return 0


def _verify(directory: Path, public_key: Path) -> str:
    verifier = _verifier(public_key)
    found = digests(directory)
    if found.pop(SIGNATURE, None) is None:
        raise IntegrityError(f"{directory} is not signed: it has no {SIGNATURE}; sign it, or {_AGAIN}")
    signed = _signed(verifier, directory / SIGNATURE, public_key)
    # The signature may say that some files are to be ignored, .gitignore for one: here none is.
    for names, what in (
        (found.keys() - signed.keys(), "is not signed"),
        (signed.keys() - found.keys(), "is signed and missing"),
        ({name for name in found.keys() & signed.keys() if found[name] != signed[name]}, "is not the signed file"),
    ):
        if names:
            raise IntegrityError(f"{directory}: {', '.join(sorted(names)[:3])} {what}; {_AGAIN}")
    if _MANIFEST not in signed:
        raise IntegrityError(f"{directory / SIGNATURE} signs no {_MANIFEST}: sign a whole model directory")
    return signed[_MANIFEST]


def _verifier(public_key: Path) -> "Verifier":
    try:
        # Not the public API: that one verifies and does not say what was signed, and to parse the signature again
        # beside it would be to trust that both read it alike.
        from model_signing._signing import sign_ec_key
    except ImportError as missing:
        raise UsageError(
            f"a signature can't be verified: {missing}; install the extra `signing` (model-signing and pyopenssl)"
        ) from missing
    try:
        return sign_ec_key.Verifier(public_key)
    except OSError as refused:
        raise UsageError(f"the public key {public_key} can't be read: {refused.strerror}") from refused
    except Exception as refused:  # whatever the libraries raise for another key, and for no key
        raise UsageError(
            f"{public_key} is not an elliptic-curve public key (P-256, P-384 or P-521) in PEM: "
            "`openssl pkey -in PRIVATE.pem -pubout` prints the one of a private key"
        ) from refused


def digests(directory: Path) -> dict[str, str]:
    """Name to sha256 of what is in the directory."""
    try:
        paths = list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise DataError(f"{directory} is not a model directory: it is not there, or is not a directory") from missing
    return {path.name: _sha256(path) for path in paths}


def _sha256(path: Path) -> str:
    try:
        # Links are not followed, and a pipe does not hold us up.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return hashlib.file_digest(file, "sha256").hexdigest()
    except IsADirectoryError:
        pass
    except OSError as refused:
        why = "is a symbolic link" if path.is_symlink() else f"can't be read: {refused.strerror}"
        raise IntegrityError(f"{path} {why}; a model directory holds regular files only") from refused
    raise IntegrityError(f"{path} is not a regular file; a model directory holds no other")


def _signed(verifier: "Verifier", path: Path, public_key: Path) -> Mapping[str, str]:
    """Name to sha256 of what was signed, from the signature as it was read and verified, once."""
    from cryptography.exceptions import InvalidSignature
    from model_signing._signing.sign_sigstore_pb import Signature

    if path.stat().st_size > _MAX_SIGNATURE_BYTES:
        raise IntegrityError(f"{path} is no signature: it has more than {_MAX_SIGNATURE_BYTES} bytes; {_AGAIN}")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the package prints warnings; ours is the digest
            resources = list(verifier.verify(Signature.read(path)).resource_descriptors())
    except Exception as refused:  # whatever the libraries raise for what is no signature
        said = " ".join(str(refused).split())[:200]
        if isinstance(refused, InvalidSignature) or said.startswith("Key mismatch"):
            raise IntegrityError(
                f"{path} was not made with the private key of {public_key}, or was changed since: "
                f"give the public key of whoever signed the directory, or {_AGAIN}"
            ) from refused
        raise IntegrityError(
            f"{path} is not a signature by model-signing with an elliptic-curve key: {said}; {_AGAIN}"
        ) from refused
    if any(resource.digest.algorithm != "sha256" for resource in resources):
        raise IntegrityError(f"{path} is not over whole files by sha256: sign again with model-signing's defaults")
    return {resource.identifier: resource.digest.digest_hex for resource in resources}


if __name__ == "__main__":
    sys.exit(main())
