import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from headrace.errors import DataError, HeadraceError, IntegrityError
from serving import loading
from serving.loading import load
from serving.model import OnnxSession

LISTED = ("model.onnx", "contract.json", "golden.json")
Seal = Callable[[Path], None]


class Marker:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def graph(width: int | None = 6, outputs=(("probabilities", 2),), element=TensorProto.FLOAT) -> onnx.ModelProto:
    """y = 1/2 for each output, from an input of that width."""
    nodes, infos = [], []
    for name, classes in outputs:
        nodes.append(helper.make_node("MatMul", ["x", f"w_{name}"], [name]))
        infos.append(helper.make_tensor_value_info(name, element, [None, classes]))
    weights = [numpy_helper.from_array(np.zeros((width or 6, n), np.float32), f"w_{name}") for name, n in outputs]
    inputs = [helper.make_tensor_value_info("x", element, [None, width])]
    model = helper.make_graph(nodes, "g", inputs, infos, weights)
    return helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def externalise(model: onnx.ModelProto, location: str, offset: int = 0) -> bytes:
    weights = model.graph.initializer[0]
    length = len(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def test_loads_what_the_pipeline_wrote(directories, task):
    model = load(directories[task])
    assert (model.name, model.version) == ("flight_delay", 3)
    assert model.inline_rows > 0


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("position", [0, 0.5, -1])
def test_flipped_bit_is_refused_with_both_digests(directory: Path, name, position):
    content = bytearray((directory / name).read_bytes())
    recorded = json.loads((directory / "manifest.json").read_text())["files"][name]
    content[int(len(content) * position) if position >= 0 else -1] ^= 1
    (directory / name).write_bytes(content)
    with pytest.raises(
        IntegrityError, match=f"{name} is not the recorded file: sha256 is [0-9a-f]{{64}}, .*{recorded}"
    ):
        load(directory)


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("keep", [0, 10])
def test_truncated_file_is_refused(directory: Path, name, keep):
    os.truncate(directory / name, keep)
    with pytest.raises(IntegrityError, match=f"{name} is not the recorded file"):
        load(directory)


@pytest.mark.parametrize("name", [*LISTED, "manifest.json"])
def test_missing_file_is_refused(directory: Path, name):
    (directory / name).unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        load(directory)


@pytest.mark.parametrize("name", [*LISTED, "manifest.json"])
def test_symbolic_link_is_refused_even_to_the_right_content(directory: Path, tmp_path: Path, name):
    (directory / name).rename(tmp_path / "elsewhere")
    (directory / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=f"{name} is a symbolic link"):
        load(directory)


def test_pipe_and_folder_are_refused_without_waiting(directory: Path):
    (directory / "golden.json").unlink()
    os.mkfifo(directory / "golden.json")
    with pytest.raises(IntegrityError, match=r"golden\.json is not a regular file"):
        load(directory)
    (directory / "golden.json").unlink()
    (directory / "golden.json").mkdir()
    with pytest.raises(IntegrityError, match="regular file"):
        load(directory)


def test_too_large_a_file_is_not_read(directory: Path):
    os.truncate(directory / "model.onnx", loading.MAX_FILE_BYTES + 1)
    with pytest.raises(IntegrityError, match="at most"):
        load(directory)


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "folder", "link"])
def test_what_the_manifest_does_not_list_is_refused(directory: Path, name):
    match name:
        case "folder":
            (directory / name).mkdir()
        case "link":
            (directory / name).symlink_to("/etc/passwd")
        case _:
            (directory / name).write_text("x")
    with pytest.raises(IntegrityError, match="does not list"):
        load(directory)


def test_listed_file_beside_the_model_is_checked_and_not_opened_further(directory: Path, tmp_path: Path, seal: Seal):
    marker = tmp_path / "unpickled"
    (directory / "model.pkl").write_bytes(pickle.dumps(Marker(marker)))
    seal(directory)
    assert load(directory).version == 3
    (directory / "model.pkl").write_bytes(b"another")
    with pytest.raises(IntegrityError, match=r"model\.pkl"):
        load(directory)
    assert not marker.exists()


@pytest.mark.parametrize("name", LISTED)
def test_pickle_in_place_of_a_file_is_never_unpickled(directory: Path, tmp_path: Path, seal: Seal, name):
    marker = tmp_path / "unpickled"
    (directory / name).write_bytes(pickle.dumps(Marker(marker)))
    seal(directory)
    with pytest.raises(DataError, match=name):
        load(directory)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["../model.onnx", "a/b", "/etc/passwd", "..", "", ".x", "a\\b", "a\0b", "manifest.json"]
)
def test_manifest_names_only_files_in_its_directory(directory: Path, name):
    manifest = json.loads((directory / "manifest.json").read_text())
    edit(directory / "manifest.json", files=manifest["files"] | {name: "0" * 64})
    with pytest.raises(IntegrityError, match="is not the name of a file"):
        load(directory)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"version": 0}, "version 0"),
        ({"files": {}}, "not listed"),
        ({"surprise": 1}, "unknown key `surprise`"),
        ({"model": "other"}, "is of 'other'"),
    ],
)
def test_manifest_that_says_something_else_is_refused(directory: Path, changes, says):
    edit(directory / "manifest.json", **changes)
    with pytest.raises(IntegrityError, match=says):
        load(directory)


@pytest.mark.parametrize("text", ["", "{", "[]", "NaN", "[" * 100_000, "\ud800"])
def test_manifest_that_is_no_json_object_is_refused(directory: Path, text: str):
    (directory / "manifest.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        load(directory)


def test_missing_directory_is_said(tmp_path: Path):
    with pytest.raises(DataError, match="not a model directory"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (graph(width=5), "takes 5 features, but contract.json has 6"),
        (graph(width=None), "takes None features"),
        (graph(element=TensorProto.DOUBLE), "can't be loaded|one input, float32"),
        (graph(outputs=(("probabilities", 3),)), r"shape \(20, 3\)"),
        (graph(), "off by"),
    ],
)
def test_model_that_does_not_fit_its_contract_is_refused(directory: Path, seal: Seal, model, says):
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    seal(directory)
    with pytest.raises(HeadraceError, match=says):
        load(directory)


def test_output_named_probabilities_wins_over_the_first():
    session = OnnxSession(graph(outputs=(("other", 3), ("probabilities", 2))).SerializeToString(), 6)
    assert session.run(np.zeros((4, 6), np.float32)).shape == (4, 2)
    first = OnnxSession(graph(outputs=(("variable", 1), ("more", 2))).SerializeToString(), 6)
    assert first.run(np.zeros((4, 6), np.float32)).shape == (4, 1)


@pytest.mark.parametrize("location", ["weights.bin", "./weights.bin", "../model/weights.bin", "absolute"])
@pytest.mark.parametrize("foldable", [True, False])
def test_weights_outside_the_file_are_refused(directory: Path, seal: Seal, monkeypatch, location, foldable):
    weights = directory / "weights.bin"
    weights.write_bytes(np.zeros((6, 2), np.float32).tobytes())
    model = graph()
    if not foldable:
        # The optimiser opens the weights of a MatMul earlier than the session does those of other nodes.
        model.graph.node[0].CopyFrom(helper.make_node("Einsum", ["x", "w_probabilities"], ["probabilities"]))
        model.graph.node[0].attribute.append(helper.make_attribute("equation", "ij,jk->ik"))
    content = externalise(model, str(weights) if location == "absolute" else location)
    (directory / "model.onnx").write_bytes(content)
    seal(directory)
    monkeypatch.chdir(directory)
    with pytest.raises(DataError, match="External data path"):
        load(directory)


def test_weights_at_a_memory_address_are_refused(directory: Path, seal: Seal):
    memory = np.zeros((6, 2), np.float32)
    (directory / "model.onnx").write_bytes(externalise(graph(), "*/_ORT_MEM_ADDR_/*", memory.ctypes.data))
    seal(directory)
    with pytest.raises(DataError, match="can't be loaded"):
        load(directory)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"predictions": [0.123] * 20}, "off by"),
        ({"predictions": [0.5]}, "20 rows and 1 predictions"),
        ({"predictions": [[0.5, 0.5]] * 20}, "not of the shape"),
        ({"rows": [{"wind_speed": 1}], "predictions": [0.5]}, "does not keep to contract"),
        ({"rows": [], "predictions": []}, "at least one"),
        ({"tolerance": 1e9}, "tolerance"),
    ],
)
def test_golden_predictions_have_to_match(directory: Path, seal: Seal, changes, says):
    edit(directory / "golden.json", **changes)
    seal(directory)
    with pytest.raises(HeadraceError, match=says):
        load(directory)
