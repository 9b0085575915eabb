"""Print how large the code is: `python tools/code_size.py`. `__init__.py` files count as lines, not as modules."""

import statistics
from pathlib import Path

FLOORS = ("atelier", "flows", "tasks")
MAX_LINES = 320  # of a module


def main() -> None:
    """Print modules, lines, the median module, modules in the roots, and the modules over MAX_LINES."""
    files = {path: len(path.read_text().splitlines()) for floor in FLOORS for path in Path(floor).rglob("*.py")}
    modules = {path: lines for path, lines in files.items() if path.name != "__init__.py"}
    print(f"{len(modules)} modules, {sum(files.values()):,} lines, median {statistics.median(modules.values()):g}")
    for floor in FLOORS:
        inside = [path for path in modules if path.parts[0] == floor]
        print(f"{floor}: {len(inside)} modules, {len([path for path in inside if len(path.parts) == 2])} in its root")
    for path, lines in sorted(modules.items(), key=lambda item: -item[1]):
        if lines > MAX_LINES:
            print(f"over {MAX_LINES}: {path}, {lines}")


if __name__ == "__main__":
    main()
