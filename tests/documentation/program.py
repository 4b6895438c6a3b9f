"""What `skelpipe`, `python`, `torchrun` and the Python of a page are, while its commands run.

The shell starts this file as a process that knows nothing. It hands its words, folder, environment and open files
to the process that has imported everything (`run_commands.py`), whose fork runs the command, and ends as that
does. It spares each command the seconds that importing torch takes.
"""

import array
import json
import os
import socket
import sys

SCRIPTS = ("train/", "skelpipe.train.")


def main() -> None:
    name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
    plain = [word for word in words if word not in ("-u", "-m")]
    if name == "python" and not (plain and plain[0].startswith(SCRIPTS)):
        python = os.environ["PAGE_PYTHON"]
        os.execv(python, [python, *words])
    request = {
        "name": name,
        "words": plain if name == "python" else words,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    place = "PAGE_BLOCKS" if name == "page-python" else "PAGE_COMMANDS"
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[place])
        files = array.array("i", [0, 1, 2])
        server.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        server.sendall(json.dumps(request).encode() + b"\n")
        answer = server.makefile().readline()
    sys.exit(int(answer or 1))


if __name__ == "__main__":
    main()
