"""Compiler launcher for nvcc: keeps the assembler's resource report beside the object file.

`ptxas -v` prints registers, stack and spills of every kernel. The whole text goes to <object>.ptxas.txt, for the
no-spill gate (tests/codegen); the terminal gets only errors, warnings and kernels that spill.
"""

import re
import subprocess
import sys
from pathlib import Path

ROUTINE = re.compile(
    r"^ptxas info\s*:(?! \(C\d+\))"  # (C7510) and its like are warnings in all but name
    r"|^\s*0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\s*$"
    r"|^\s*$"
)


def main(command: list[str]) -> int:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if "-o" in command and "-c" in command:
        Path(command[command.index("-o") + 1] + ".ptxas.txt").write_text(done.stdout)
    noteworthy = [line for line in done.stdout.splitlines() if done.returncode != 0 or not ROUTINE.match(line)]
    if noteworthy:
        print("\n".join(noteworthy), file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
