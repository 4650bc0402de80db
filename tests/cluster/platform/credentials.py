"""Who may do what in the stores, as Secrets. Passwords are made when the platform is, and are of no use elsewhere."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

BUCKET = "headrace"
STORE = f"s3://{BUCKET}/serving"
PREDICTIONS = f"{STORE}/predictions"
REGION = "us-east-1"
DATA, HEADRACE = "headrace-data", "headrace"
S3 = f"http://seaweedfs.{DATA}.svc:8333"
MLFLOW = f"http://mlflow.{HEADRACE}.svc:5000"
POSTGRES = f"postgres.{DATA}.svc:5432"
REDIS = f"redis.{DATA}.svc:6379"
# Services get Secrets of their own: with the steps' they could write models.
SERVICES_STORE, SERVICES_ONLINE_STORE = "headrace-serving-store", "headrace-serving-online-store"
_PROJECT = "headrace"


def _new() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Passwords:
    """One a user and store; all letters and digits, so that no URL or SQL needs to quote them."""

    postgres_mlflow: str = field(default_factory=_new, repr=False)
    postgres_feast: str = field(default_factory=_new, repr=False)
    redis_steps: str = field(default_factory=_new, repr=False)
    redis_services: str = field(default_factory=_new, repr=False)
    s3_mlflow: str = field(default_factory=_new, repr=False)
    s3_steps: str = field(default_factory=_new, repr=False)
    s3_services: str = field(default_factory=_new, repr=False)

    def all(self) -> Mapping[str, str]:
        """By name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


def online_store(user: str, password: str, place: str = REDIS) -> str:
    """URL of the online store."""
    return f"redis://{user}:{password}@{place}/0?project={_PROJECT}"


def feast_registry(password: str, place: str = POSTGRES) -> str:
    """SQLAlchemy URL of Feast's registry."""
    return f"postgresql+psycopg://feast:{password}@{place}/feast"


def key(user: str, password: str) -> dict[str, str]:
    """A user of the object store, as the AWS command line has it."""
    return {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": password}


def secret_objects(made: Passwords) -> list[dict[str, Any]]:
    """All Secrets of the platform."""
    steps, services = key("steps", made.s3_steps), key("services", made.s3_services)
    mlflow = {
        "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg://mlflow:{made.postgres_mlflow}@{POSTGRES}/mlflow",
        "MLFLOW_S3_ENDPOINT_URL": S3,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        **key("mlflow", made.s3_mlflow),
    }
    return [
        _secret(DATA, "passwords", made.all()),
        _secret(DATA, "postgres", {"mlflow": made.postgres_mlflow, "feast": made.postgres_feast}),
        _secret(DATA, "redis", {"users.acl": _redis_users(made)}),
        _secret(DATA, "seaweedfs", {"s3.json": json.dumps(_s3_identities(made))}),
        _secret(HEADRACE, "mlflow", mlflow),
        _secret(HEADRACE, "headrace-store", steps),
        _secret(HEADRACE, "headrace-online-store", {"url": online_store("steps", made.redis_steps)}),
        _secret(HEADRACE, "headrace-steps", {"HEADRACE_FEAST_REGISTRY": feast_registry(made.postgres_feast)}),
        _secret(HEADRACE, SERVICES_STORE, services),
        _secret(HEADRACE, SERVICES_ONLINE_STORE, {"url": online_store("services", made.redis_services)}),
    ]


def _secret(namespace: str, name: str, values: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(values)}


def _redis_users(made: Passwords) -> str:
    """Redis keeps what it compares passwords with, not the passwords."""
    steps, services = (hashlib.sha256(one.encode()).hexdigest() for one in (made.redis_steps, made.redis_services))
    return (
        "user default off\n"
        f"user steps on #{steps} ~* +@all -@admin -@dangerous +info\n"
        f"user services on #{services} ~* +@read +@connection -@dangerous\n"
    )


def _s3_identities(made: Passwords) -> dict[str, Any]:
    models, predictions = f"{BUCKET}/serving/models/*", f"{BUCKET}/serving/predictions/*"
    reading = [f"{action}:{models}" for action in ("Read", "List")]
    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    return {
        "identities": [
            _identity("steps", made.s3_steps, everything),
            _identity("mlflow", made.s3_mlflow, [f"{one}:{BUCKET}/mlflow/*" for one in ("Read", "Write", "List")]),
            _identity("services", made.s3_services, [*reading, f"Write:{predictions}"]),
        ]
    }


def _identity(user: str, password: str, actions: list[str]) -> dict[str, Any]:
    return {"name": user, "credentials": [{"accessKey": user, "secretKey": password}], "actions": actions}
