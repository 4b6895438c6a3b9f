"""Run a program that ends with the one that started it: `python tied.py PARENT-ID PROGRAM [ARGUMENT...]`.

A test run that is killed outright stops nothing itself; the kernel does it here, and for what the program starts
in turn when it starts no other program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit("the kernel cannot tie this program to its parent")
    if os.getppid() != parent:  # gone before it could be told
        sys.exit("the parent is gone")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
