"""kbert beside its peers on the same work, in one run.

Purpose: runs the parts of this suite one after the other, then prints one table of
their promises and a JSON line of all their figures.

    python -m benchmarks.speed --peer-python venv-peers/bin/python \\
        --data-dir $DATA --preset $PRESET

`--only PART` runs one part (repeatable); a part's own options are those of its script.
Exits with 1 where a promise is broken, or a part failed.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.serving.servers import ROOT
from benchmarks.speed.report import PROMISES_HEAD, Promise, make_parser, parse

MODULES = {
    "step": "step",
    "finetune": "finetune",
    "tokenize": "tokenizing",
    "predict": "predict",
    "serve_one": "serve_one",
    "startup": "startup",
}


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--only", action="append", choices=list(MODULES))
    arguments = parse(parser)
    folder = arguments.folder.parent if arguments.quick else arguments.folder
    options = ["--peer-python", arguments.peer_python]
    options += ["--data-dir", arguments.data_dir, "--preset", arguments.preset]
    options += ["--folder", str(folder)]
    options += ["--quick"] if arguments.quick else []
    results = {}
    for part in arguments.only or MODULES:
        print(f"\n=== {part}", flush=True)
        module = f"benchmarks.speed.{MODULES[part]}"
        results[part] = run_part([sys.executable, "-m", module, *options])
    print(f"\n| part {PROMISES_HEAD.replace('|---', '|---|---', 1)}")
    for part, result in results.items():
        for promise in result.get("promises", ()):
            print(f"| {part} {Promise(**promise)}")
        if "promises" not in result:
            print(f"| {part} | failed, see above | | | BROKEN |")
    kept = all(result["kept"] for result in results.values())
    print(f"\n{json.dumps({'kept': kept, 'parts': results})}")
    return 0 if kept else 1


def run_part(command: Sequence[str]) -> dict[str, Any]:
    """Runs a part and shows what it prints; gives the JSON of its last line."""
    last = ""
    with subprocess.Popen(
        list(command), cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            # The JSON of all parts comes at the end.
            if line.startswith('{"part": '):
                last = line
            else:
                print(line, end="", flush=True)
    return json.loads(last) if last else {"kept": False}


if __name__ == "__main__":
    sys.exit(main())
