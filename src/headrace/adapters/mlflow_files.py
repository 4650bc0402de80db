"""Model directories as MLflow keeps them: laid out on the way in, checked on the way out."""

import hashlib
import json
import shutil
from pathlib import Path

from headrace.documents import read_json
from headrace.domain.contract import Contract
from headrace.domain.encoding import encode
from headrace.domain.lineage import ModelVersion
from headrace.errors import IntegrityError

MANIFEST = "manifest.json"


def lay_out(directory: Path, to: Path) -> None:
    """Lay MLflow's own files (MLmodel, signature, example) around a model directory."""
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import infer_signature

    contract = read_json(Contract, directory / "contract.json")
    golden = json.loads((directory / "golden.json").read_text())
    columns = {name: [row[name] for row in golden["rows"]] for name in contract.feature_names}
    example = encode(contract, columns)
    predictions = np.asarray(golden["predictions"], dtype=np.float32)
    mlflow.onnx.save_model(
        onnx.load_from_string((directory / "model.onnx").read_bytes()),
        str(to),
        pip_requirements=["onnxruntime"],
        signature=infer_signature(example, predictions),
        input_example=example,
        onnx_execution_providers=["CPUExecutionProvider"],
        metadata={"features": list(contract.feature_names)},
    )
    # MLflow writes the graph anew; what was judged is the file as it was.
    shutil.copytree(directory, to, dirs_exist_ok=True)


def digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def verify(version: ModelVersion, directory: Path, is_fetched: bool = False) -> None:
    """Compare every file with its recorded digest.

    Args:
        version: says the digests.
        directory: what is compared.
        is_fetched: whether it has just come from the store, and is not kept if it is not in order.

    Raises:
        IntegrityError: files differ, are missing, or are too many.
    """
    found = {name: digest for name, digest in digests(directory).items() if name != MANIFEST}
    recorded = dict(version.lineage.files)
    if found == recorded:
        return
    wrong = ", ".join(sorted(name for name in {*found, *recorded} if found.get(name) != recorded.get(name)))
    what = f"{version.model} v{version.version}"
    if is_fetched:
        raise IntegrityError(
            f"{what} as MLflow has it is not what was registered: {wrong} differ; "
            "nothing of it is kept: find out who changed it in the store"
        )
    raise IntegrityError(
        f"{what} in {directory} is not what was registered: {wrong} differ; "
        "remove the folder to fetch it again, and find out who changed it"
    )
