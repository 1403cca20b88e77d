"""Start a program whose whole process group is killed when a pipe is closed, as by the end of the one who holds it.

Run by its path with ``python -I -S``; it imports nothing else of this project. Its arguments are the pipe to watch, the
pipe that takes the error number of a program that cannot be started, the value of LC_CTYPE (which Python itself
changes), and the command. The process becomes the program, so that its number and its status are the program's.
"""

import os
import signal
import sys


def watch(pipe: int, refused: int) -> None:
    """Kill the process group, this process included, when the pipe is closed at its other end."""
    os.close(refused)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # whoever reads the program's output sees its end when the program ends
        os.dup2(null, stream)
    os.read(pipe, 1)
    os.killpg(0, signal.SIGKILL)


def start(pipe: int, refused: int, locale: str, command: "list[str]") -> None:
    """Leave a process that watches the pipe, and become the program."""
    if os.fork() == 0:
        if os.fork() == 0:  # twice, so that the program has no child that it knows nothing of
            watch(pipe, refused)
        os._exit(0)
    os.wait()
    for own in (pipe, refused):
        os.set_inheritable(own, False)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and programs expect as usual
        signal.signal(number, signal.SIG_DFL)
    if locale:
        os.environ["LC_CTYPE"] = locale
    else:
        os.environ.pop("LC_CTYPE", None)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(refused, str(error.errno).encode())
        os._exit(127)


if __name__ == "__main__":
    start(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
