"""Write the rendered chart anew: python -m tests.golden.charts [--check]."""

import sys

from tests.cluster.node.place import NodeError
from tests.golden.charts.render import CASES, GOLDEN, render


def main(arguments: list[str]) -> int:
    """Render, or with --check say what would change."""
    try:
        fresh = {GOLDEN / f"{case}.yaml": render(case) for case in CASES}
    except NodeError as missing:
        print(f"the rendered chart is left as it is: {missing}", file=sys.stderr)
        return 4
    changed = [path for path, text in fresh.items() if not path.exists() or path.read_text() != text]
    if arguments == ["--check"]:
        for path in changed:
            print(f"{path.name} is not what the chart renders; run `make golden`", file=sys.stderr)
        return 1 if changed else 0
    for path in changed:
        path.write_text(fresh[path])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
