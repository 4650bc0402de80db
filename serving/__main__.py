"""``python -m serving --directory DIRECTORY``: put the model in a directory in service."""

import os
import sys
from collections.abc import Sequence

from headrace import telemetry
from headrace.errors import HeadraceError
from serving.options import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal says stop.

    Returns:
        The exit code: 0 after SIGTERM, 130 after Ctrl-C, else that of the error in `headrace.errors`.
    """
    options = parser().parse_args(arguments)
    telemetry.configure(options.log_level)
    try:
        from serving.running import serve, serve_with_workers

        return serve(options) if options.workers == 1 else serve_with_workers(options)
    except HeadraceError as problem:
        print(f"headrace: {problem}", file=sys.stderr)
        return problem.exit_code


if __name__ == "__main__":
    # Somebody else's folder for metrics: Feast names one to every process that its own starts. Ours is named by us.
    for inherited in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(inherited, None)
    sys.exit(main())
