"""Fault 6: a directory that is unsigned, signed with another key, or not what was signed, is refused."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from model_signing import hashing, signing

from headrace.errors import DataError, IntegrityError, UsageError
from serving import signature
from serving.signature import signed_manifest_digest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/signing.md").read_text()


def write_keys(folder: Path, name: str, key) -> Path:
    """The path of the private key; the public one is beside it, as NAME.pub.pem."""
    private = folder / f"{name}.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub.pem").write_bytes(public)
    return private


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key pairs."""
    folder = tmp_path_factory.mktemp("keys")
    for name, key in {
        "ours": ec.generate_private_key(ec.SECP256R1()),
        "other": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
        "bitcoin": ec.generate_private_key(ec.SECP256K1()),
        "rsa": rsa.generate_private_key(65537, 2048),
    }.items():
        write_keys(folder, name, key)
    return folder


@pytest.fixture
def key(keys: Path) -> Path:
    return keys / "ours.pub.pem"


def sign(directory: Path, private_key: Path, files: hashing.Config | None = None) -> None:
    files = files or hashing.Config().set_ignored_paths(paths=["model.sig"])
    signer = signing.Config().set_hashing_config(files).use_elliptic_key_signer(private_key=private_key)
    signer.sign(directory, directory / "model.sig")


@pytest.fixture
def signed(directory: Path, keys: Path) -> Path:
    """A signed model directory, to damage."""
    sign(directory, keys / "ours.pem")
    return directory


def manifest_digest(directory: Path) -> str:
    return hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()


def refusal(capsys: pytest.CaptureFixture[str], directory: Path, key: Path, exit_code: int = 6) -> str:
    """What is said of the directory, in one line; in this process, because another one takes half a second."""
    code = signature.main([str(directory), str(key)])
    said = capsys.readouterr()
    assert code == exit_code, said
    assert said.out == ""
    assert said.err.startswith("headrace: ")
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize("name", ["ours", "p384", "p521"])
def test_digest_of_the_signed_manifest_is_given(directory: Path, keys: Path, name):
    sign(directory, keys / f"{name}.pem")
    assert signed_manifest_digest(directory, keys / f"{name}.pub.pem") == manifest_digest(directory)


def test_relative_paths_are_the_callers(signed: Path, key: Path, monkeypatch):
    monkeypatch.chdir(signed.parent)
    shutil.copy(key, signed.parent / "-key.pem")
    assert signed_manifest_digest(Path("model"), Path("-key.pem")) == manifest_digest(signed)


def test_directory_that_is_reached_by_a_link_is_taken(signed: Path, key: Path, tmp_path: Path):
    (tmp_path / "current").symlink_to(signed)
    assert signed_manifest_digest(tmp_path / "current", key) == manifest_digest(signed)


def test_copy_elsewhere_is_the_same_model(signed: Path, key: Path, tmp_path: Path):
    shutil.copytree(signed, tmp_path / "elsewhere")
    assert signed_manifest_digest(tmp_path / "elsewhere", key) == manifest_digest(signed)


def test_verifying_leaves_the_service_small(signed: Path, key: Path):
    program = f"""
import sys
from pathlib import Path
from serving.signature import signed_manifest_digest
signed_manifest_digest(Path({str(signed)!r}), Path({str(key)!r}))
print(sorted(name for name in sys.modules if name.split(".")[0] in ("model_signing", "cryptography", "sigstore")))
"""
    told = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


# Refused directories


def test_each_kind_of_refusal_reaches_the_caller_as_its_error(signed: Path, keys: Path, key: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"rsa\.pub\.pem is not an elliptic-curve public key"):
        signed_manifest_digest(signed, keys / "rsa.pub.pem")
    with pytest.raises(DataError, match="nothing is not a model directory"):
        signed_manifest_digest(tmp_path / "nothing", key)
    with pytest.raises(IntegrityError, match=r"was not made with the private key of .*other\.pub\.pem"):
        signed_manifest_digest(signed, keys / "other.pub.pem")


def test_verifier_that_breaks_down_vouches_for_nothing(signed: Path, key: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "packages" / "model_signing").mkdir(parents=True)
    (tmp_path / "packages" / "model_signing" / "__init__.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    with pytest.raises(IntegrityError, match="could not be verified: the verifier ended with -6"):
        signed_manifest_digest(signed, key)


@pytest.mark.parametrize("package", ["model_signing", "OpenSSL"])
def test_missing_package_is_said_with_the_extra_that_has_it(signed: Path, key: Path, tmp_path, monkeypatch, package):
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / f"{package}.py").write_text(f'raise ModuleNotFoundError("No module named {package}")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    with pytest.raises(UsageError, match=f"No module named {package}; install the extra `signing`"):
        signed_manifest_digest(signed, key)


def test_unsigned_directory_is_refused(directory: Path, key: Path, capsys):
    assert "is not signed: it has no model.sig; sign it" in refusal(capsys, directory, key)


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "golden.json", "manifest.json"])
def test_changed_file_is_refused(signed: Path, key: Path, capsys, name):
    content = bytearray((signed / name).read_bytes())
    content[-1] ^= 1
    (signed / name).write_bytes(content)
    assert f"{name} is not the signed file" in refusal(capsys, signed, key)


def test_missing_file_is_refused(signed: Path, key: Path, capsys):
    (signed / "golden.json").unlink()
    assert "golden.json is signed and missing" in refusal(capsys, signed, key)


# .gitignore and .git are left out by model-signing unless it is told otherwise, and the signature says so.
@pytest.mark.parametrize("name", ["extra.txt", ".hidden", ".gitignore", ".gitattributes", ".git", "signing.pub.pem"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_file_that_is_not_signed_is_refused(directory: Path, keys: Path, key: Path, capsys, name, when):
    files = hashing.Config().set_ignored_paths(paths=["model.sig", name])
    if when == "after":
        sign(directory, keys / "ours.pem", files)
    (directory / name).write_text("x")
    if when == "before":
        sign(directory, keys / "ours.pem", files)
    assert f"{name} is not signed" in refusal(capsys, directory, key)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "model.sig", "extra"])
def test_symbolic_link_is_refused_even_to_the_right_content(signed: Path, key: Path, tmp_path: Path, capsys, name):
    (signed / "extra").write_text("x")
    (signed / name).rename(tmp_path / "elsewhere")
    (signed / "extra").unlink(missing_ok=True)
    (signed / name).symlink_to(tmp_path / "elsewhere")
    assert f"{name} is a symbolic link" in refusal(capsys, signed, key)


def test_signed_symbolic_link_is_refused(directory: Path, keys: Path, key: Path, tmp_path: Path, capsys):
    (directory / "golden.json").rename(tmp_path / "elsewhere")
    (directory / "golden.json").symlink_to(tmp_path / "elsewhere")
    files = hashing.Config().set_ignored_paths(paths=["model.sig"]).set_allow_symlinks(True)
    sign(directory, keys / "ours.pem", files)
    assert "golden.json is a symbolic link" in refusal(capsys, directory, key)


@pytest.mark.parametrize("name", ["model.sig", "model.onnx", "extra"])
def test_pipe_and_folder_are_refused_without_waiting(signed: Path, key: Path, capsys, name):
    (signed / name).unlink(missing_ok=True)
    os.mkfifo(signed / name)
    assert f"{name} is not a regular file" in refusal(capsys, signed, key)
    (signed / name).unlink()
    (signed / name).mkdir()
    assert f"{name} is not a regular file" in refusal(capsys, signed, key)


def test_signature_over_other_files_is_refused(signed: Path, keys: Path, key: Path, tmp_path: Path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "readme.txt").write_text("x")
    sign(other, keys / "ours.pem")
    shutil.copy(other / "model.sig", signed / "model.sig")
    assert "contract.json, golden.json, manifest.json is not signed" in refusal(capsys, signed, key)
    assert "signs no manifest.json" in refusal(capsys, other, key)


def test_signature_over_another_version_is_refused(signed: Path, key: Path, tmp_path: Path, keys: Path, capsys):
    later = Path(shutil.copytree(signed, tmp_path / "later"))
    manifest = json.loads((later / "manifest.json").read_text())
    (later / "manifest.json").write_text(json.dumps(manifest | {"version": 4}))
    sign(later, keys / "ours.pem")
    shutil.copy(later / "model.sig", signed / "model.sig")
    assert "manifest.json is not the signed file" in refusal(capsys, signed, key)


@pytest.mark.parametrize("how", ["shards", "blake3"])
def test_signature_with_other_digests_is_refused(directory: Path, keys: Path, key: Path, capsys, how):
    files = hashing.Config()
    if how == "shards":
        files.use_shard_serialization()
    else:
        files.use_file_serialization(hashing_algorithm="blake3")
    sign(directory, keys / "ours.pem", files.set_ignored_paths(paths=["model.sig"]))
    assert "is not over whole files by sha256" in refusal(capsys, directory, key)


# Forged signatures


def edit_envelope(directory: Path, **changes) -> None:
    bundle = json.loads((directory / "model.sig").read_text())
    bundle["dsseEnvelope"] |= changes
    (directory / "model.sig").write_text(json.dumps(bundle))


def payload(directory: Path) -> dict:
    return json.loads(base64.b64decode(json.loads((directory / "model.sig").read_text())["dsseEnvelope"]["payload"]))


def encode(statement: dict) -> str:
    return base64.b64encode(json.dumps(statement).encode()).decode()


def test_signature_of_another_key_that_claims_to_be_ours_is_refused(signed: Path, keys: Path, key: Path, capsys):
    hint = json.loads((signed / "model.sig").read_text())["verificationMaterial"]
    sign(signed, keys / "other.pem")
    bundle = json.loads((signed / "model.sig").read_text())
    (signed / "model.sig").write_text(json.dumps(bundle | {"verificationMaterial": hint}))
    assert "was not made with the private key of" in refusal(capsys, signed, key)


def test_signature_that_names_no_key_is_held_against_ours_all_the_same(signed: Path, keys: Path, key: Path, capsys):
    for name, expected in (("other", 6), ("ours", 0)):
        sign(signed, keys / f"{name}.pem")
        bundle = json.loads((signed / "model.sig").read_text())
        bundle["verificationMaterial"]["publicKey"]["hint"] = ""
        (signed / "model.sig").write_text(json.dumps(bundle))
        assert signature.main([str(signed), str(key)]) == expected
    assert capsys.readouterr().out == f"{manifest_digest(signed)}\n"


def test_changed_payload_is_refused(signed: Path, key: Path, capsys):
    (signed / "golden.json").write_text("{}")
    statement = payload(signed)
    for resource in statement["predicate"]["resources"]:
        if resource["name"] == "golden.json":
            resource["digest"] = hashlib.sha256(b"{}").hexdigest()
    edit_envelope(signed, payload=encode(statement))
    assert "was not made with the private key of" in refusal(capsys, signed, key)


@pytest.mark.parametrize("where", ["before", "after"])
def test_second_payload_in_the_signature_does_not_count(signed: Path, key: Path, capsys, where):
    """Two parsers may read a doubled key differently; here one parser reads it once."""
    statement = payload(signed)
    statement["predicate"]["resources"] = [{"name": "manifest.json", "algorithm": "sha256", "digest": "0" * 64}]
    envelope = json.loads((signed / "model.sig").read_text())["dsseEnvelope"]
    ours, forged = (f'"payload": "{text}"' for text in (envelope["payload"], encode(statement)))
    both = f"{forged}, {ours}" if where == "before" else f"{ours}, {forged}"
    text = (signed / "model.sig").read_text().replace(json.dumps(envelope["payload"]), f'"", {both}', 1)
    assert json.loads(text)
    (signed / "model.sig").write_text(text)
    if where == "after":
        assert "was not made with the private key of" in refusal(capsys, signed, key)
    else:
        assert signature.main([str(signed), str(key)]) == 0
        assert capsys.readouterr().out == f"{manifest_digest(signed)}\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"verificationMaterial": {}}',
        b'{"verificationMaterial": {"publicKey": {}}, "dsseEnvelope": {"signatures": []}}',
    ],
)
def test_what_is_no_signature_is_refused(signed: Path, key: Path, capsys, content: bytes):
    (signed / "model.sig").write_bytes(content)
    assert "is not a signature by model-signing" in refusal(capsys, signed, key)


@pytest.mark.parametrize(
    "changes", [{"signatures": []}, {"payload": ""}, {"payloadType": "text/plain"}, {"signatures": [{"sig": "AAAA"}]}]
)
def test_signature_without_a_part_of_it_is_refused(signed: Path, key: Path, capsys, changes):
    edit_envelope(signed, **changes)
    assert "model.sig" in refusal(capsys, signed, key)


def test_signature_that_is_far_too_large_is_not_parsed(signed: Path, key: Path, capsys):
    os.truncate(signed / "model.sig", 1024 * 1024 + 1)
    assert "has more than 1048576 bytes" in refusal(capsys, signed, key)


# Keys


@pytest.mark.parametrize("name", ["ours.pem", "rsa.pub.pem", "bitcoin.pub.pem", "empty", "binary", "text"])
def test_what_is_not_a_public_key_is_refused(signed: Path, keys: Path, tmp_path: Path, capsys, name):
    for other, content in {"empty": b"", "binary": bytes(range(256)), "text": b"a key"}.items():
        (tmp_path / other).write_bytes(content)
    path = next(folder / name for folder in (keys, tmp_path) if (folder / name).exists())
    told = refusal(capsys, signed, path, exit_code=2)
    assert f"{path} is not an elliptic-curve public key (P-256, P-384 or P-521) in PEM" in told


@pytest.mark.parametrize("name", ["missing.pem", "."])
def test_key_that_can_not_be_read_is_said(signed: Path, keys: Path, capsys, name):
    assert f"the public key {keys / name} can't be read: " in refusal(capsys, signed, keys / name, exit_code=2)


# The page


COMMANDS = [line.removeprefix("    ") for line in PAGE.splitlines() if line.startswith("    ")]


def commands(start: str) -> list[str]:
    return [line for line in COMMANDS if line.startswith(start)]


@pytest.mark.parametrize("with_python", [False, True])
def test_page_makes_keys_signs_and_checks(directory: Path, with_python):
    folder = directory.parent
    start = COMMANDS.index("from model_signing import hashing, signing")
    (folder / "sign.py").write_text("\n".join(COMMANDS[start : start + 4]))
    signing_command = "python sign.py" if with_python else commands("model_signing")[0]
    script = "\n".join([*commands("openssl"), signing_command, *commands("python -m serving.signature")])
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
    }
    done = subprocess.run(
        ["/bin/bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == manifest_digest(directory)
    assert (directory / "model.sig").is_file()
