"""What KFP's launcher does in a step's container: artefacts in, the command, artefacts out.

Its text is the first argument of `python3 -c`; the arguments after it are the executor input and the command. What the
step gave goes into the pod's termination message, where whoever started it reads it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow import fs

MESSAGE = Path("/dev/termination-log")


def local(uri: str) -> Path:
    """Where KFP's executor looks for an artefact."""
    return Path(uri.replace("s3://", "/s3/", 1))


def uris(side: dict) -> list[str]:
    """The artefacts of the inputs or outputs."""
    return [one["uri"] for listed in side.get("artifacts", {}).values() for one in listed["artifacts"]]


def main() -> int:
    """Returns: the command's exit code."""
    executor_input, command = json.loads(sys.argv[1]), sys.argv[2:]
    endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    region = os.environ.get("AWS_REGION", "us-east-1")
    store = fs.S3FileSystem(endpoint_override=endpoint.netloc, scheme=endpoint.scheme, region=region)
    for uri in uris(executor_input["inputs"]):
        local(uri).mkdir(parents=True, exist_ok=True)
        fs.copy_files(uri.removeprefix("s3://"), str(local(uri)), source_filesystem=store)
    code = subprocess.run(command, check=False).returncode
    for uri in uris(executor_input["outputs"]):
        if local(uri).is_dir():
            fs.copy_files(str(local(uri)), uri.removeprefix("s3://"), destination_filesystem=store)
    output = Path(executor_input["outputs"]["outputFile"])
    if code == 0:
        MESSAGE.write_text(output.read_text() if output.is_file() else "{}")
    return code


sys.exit(main())
