"""A real object store that speaks S3: SeaweedFS, on loopback, in a process of its own."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from sysconfig import get_path

from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

from tests.conftest import free_ports

KEY, SECRET = "seaweed-test", "seaweed-test-secret"
_LISTENERS = ("master", "volume", "filer", "s3")
_DEADLINE_S = 30


@dataclass
class Seaweed:
    """A store that can be stopped, and started again with what it had.

    Attributes:
        folder: where it keeps everything.
        bucket: is there from the first start on.
    """

    folder: Path
    bucket: str = "headrace"
    process: subprocess.Popen[bytes] | None = None
    _ports: list[int] = field(default_factory=lambda: free_ports(2 * len(_LISTENERS)))

    @property
    def host(self) -> str:
        """Host and port of the S3 API."""
        return f"127.0.0.1:{self._ports[len(_LISTENERS) - 1]}"

    @property
    def endpoint(self) -> str:
        """URL of the S3 API."""
        return f"http://{self.host}"

    @property
    def env(self) -> dict[str, str]:
        """What a client finds it with, as the AWS command line has it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def url(self, prefix: str) -> str:
        """A place in the bucket, as pyarrow takes it."""
        return f"s3://{self.bucket}/{prefix}?endpoint_override={self.host}&scheme=http"

    def files(self) -> S3FileSystem:
        """A client of its own; its answers count as what is there."""
        return S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            region="us-east-1",
            scheme="http",
            endpoint_override=self.host,
            allow_bucket_creation=True,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
        )

    def start(self) -> None:
        """Start it and wait until it takes files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            which("weed", path=get_path("scripts")) or "weed",
            "server",
            f"-dir={self.folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=20",
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            # By default both are in /tmp, and stay there.
            f"-s3.localSocket={self.folder}/s3.sock",
            f"-filer.localSocket={self.folder}/filer.sock",
        ]
        ports, grpc_ports = self._ports[: len(_LISTENERS)], self._ports[len(_LISTENERS) :]
        for name, port, grpc_port in zip(_LISTENERS, ports, grpc_ports, strict=True):
            command += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc_port}"]
        with (self.folder / "log").open("ab") as log:
            environment = {**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
            self.process = subprocess.Popen(
                [command[0], "-logtostderr=true", *command[1:]], stdout=log, stderr=log, env=environment
            )
        self._wait()

    def stop(self) -> None:
        """End it; whoever asks then is refused at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(_DEADLINE_S)
            self.process = None
        # Where it is killed it leaves these, and no flag puts them elsewhere.
        for port in self._ports[len(_LISTENERS) :]:
            for socket in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):  # noqa: S108
                socket.unlink()

    def _wait(self) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                files = self.files()
                files.create_dir(self.bucket)
                with files.open_output_stream(f"{self.bucket}/ready") as file:
                    file.write(b"yes")
                return
            except OSError as refused:
                said = (self.folder / "log").read_text(errors="replace")[-2000:]
                assert self.process is not None
                assert self.process.poll() is None, said
                if time.monotonic() >= deadline:
                    raise AssertionError(said) from refused
                time.sleep(0.1)


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """A store that runs, and that is gone afterwards."""
    store = Seaweed(folder)
    try:
        store.start()
        yield store
    finally:
        store.stop()
