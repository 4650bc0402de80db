"""Write the compiled pipelines, byte for byte the same every time: python -m pipelines.compile [--check].

The image in them is a name without a registry; `headrace --context cluster` puts HEADRACE_COMPONENTS_IMAGE in its place
when it submits one, and --image does so for a pipeline that is uploaded by hand.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from kfp import compiler

from headrace.adapters.cluster.kfp_package import Package
from pipelines.training import training

COMPILED = Path(__file__).parent / "compiled"
PIPELINES = {"training": training}


def compile_all(folder: Path) -> dict[str, str]:
    """Compile every pipeline into `folder`; file name to content."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pipeline in PIPELINES.items():
        compiler.Compiler().compile(pipeline, str(folder / f"{name}.yaml"))
    return {path.name: path.read_text() for path in sorted(folder.glob("*.yaml"))}


def main() -> int:
    """Compile, or with --check say whether what is committed is what would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when something would change")
    parser.add_argument("--image", help="write nothing; print the training pipeline with its steps in this image")
    given = parser.parse_args()
    if given.image:
        print(Package(COMPILED / "training.yaml", given.image).text(), end="")
        return 0
    if not given.check:
        compile_all(COMPILED)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        fresh = compile_all(Path(scratch))
    committed = {path.name: path.read_text() for path in sorted(COMPILED.glob("*.yaml"))}
    changed = sorted(name for name in {*fresh, *committed} if fresh.get(name) != committed.get(name))
    if changed:
        print(f"compiled pipelines are not up to date: {', '.join(changed)}; run `make compile`", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
