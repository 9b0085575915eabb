"""Export a generator, or publish a studio's model, as `atelier export` and `atelier publish` do.

`python -m atelier.export onnx GENERATOR TO`, `… html GENERATOR TO`, `… publish TO`.
"""

import argparse
import sys
from pathlib import Path

from atelier.errors import run_for_exit_code


def main() -> int:
    """Parse the arguments, export, and print a sentence about the result. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m atelier.export", description=(__doc__ or "").splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("onnx", "html"):
        command = kinds.add_parser(kind)
        command.add_argument("generator", type=Path)
        command.add_argument("to", type=Path)
        if kind == "onnx":
            command.add_argument("--batch", type=int)
    command = kinds.add_parser("publish")
    command.add_argument("to", type=Path)
    command.add_argument("--license", default="other")
    command.add_argument("--has-rights", action="store_true")
    arguments = parser.parse_args()
    # each imports what only it needs
    if arguments.kind == "onnx":
        from atelier.export.onnx_file import export

        print(export(arguments.generator, arguments.to, arguments.batch))
    elif arguments.kind == "html":
        from atelier.page.explorer import write_explorer

        print(write_explorer(arguments.generator, arguments.to))
    else:
        from atelier.export.publish import publish

        print(publish(arguments.to, arguments.license, arguments.has_rights))
    return 0


if __name__ == "__main__":
    sys.exit(run_for_exit_code(main, ""))
