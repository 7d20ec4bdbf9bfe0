"""Leaves files of every kind in the working directory, as the first argument says."""

import os
import socket
import sys

kind = sys.argv[1]
rest = sys.argv[2:]

if kind == "links":
    os.symlink("/etc/passwd", "absolute.txt")
    os.symlink("../../../../../../../../etc/passwd", "relative.txt")
    os.symlink("loop.txt", "loop.txt")
    os.symlink(rest[0], "secret.txt")
    os.symlink("real.txt", "inner.txt")
    os.mkdir("real")
    with open("real.txt", "w") as file:
        file.write("real")
    with open("real/file.txt", "w") as file:
        file.write("deep")
    os.symlink("/etc", "etc")
    os.symlink("real", "linked")
    os.symlink("..", "up")
elif kind == "special":
    os.mkfifo("fifo.txt")
    socket.socket(socket.AF_UNIX).bind("socket.txt")
    os.mkdir("directory.txt")
    with open("real.txt", "w") as file:
        file.write("real")
    os.link("real.txt", "hard.txt")
    try:
        os.link("/etc/passwd", "stolen.txt")
    except OSError:
        pass
    try:
        os.mknod("device.txt", 0o020666, os.makedev(1, 5))
    except OSError:
        pass
elif kind == "deep":
    for level in range(int(rest[0])):
        with open("file.txt", "w") as file:
            file.write(str(level))
        os.mkdir("d")
        os.chdir("d")
elif kind == "many":
    for index in range(int(rest[0])):
        with open(f"{index:05}.txt", "w") as file:
            file.write(str(index))
elif kind == "sparse":
    with open("small.txt", "w") as file:
        file.write("small")
    with open("giant.txt", "w") as file:
        try:
            os.ftruncate(file.fileno(), int(rest[0]))
            print("made")
        except OSError as error:
            print(error.strerror)
elif kind == "names":
    for name in (b"\xff\xfe.txt", b"a\nb.txt", b"\x01\x7f.txt", "ä€😀.txt".encode(), b"-rf.txt", b" .txt", b"\\.txt",
                 b"\xed\xa0\x80.txt", b"n" * 251 + b".txt", b"'\"$(x).txt", b"..txt", b"...txt"):
        with open(name, "wb") as file:
            file.write(name)
elif kind == "modes":
    for mode in (0o000, 0o200, 0o111, 0o4755, 0o600):
        with open(f"{mode:04o}.txt", "w") as file:
            file.write("x")
        os.chmod(f"{mode:04o}.txt", mode)
    os.mkdir("closed")
    with open("closed/file.txt", "w") as file:
        file.write("y")
    os.chmod("closed", 0)
elif kind == "sizes":
    for name, size in (part.split("=") for part in rest):
        with open(name, "wb") as file:
            file.write(b"s" * int(size))
elif kind == "tree":
    for path in rest:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w") as file:
            file.write(path)
elif kind == "racer":
    # Goes on to swap a file for a link when its parent has ended.
    with open("swap.txt", "w") as file:
        file.write("real")
    if os.fork() == 0:
        os.setsid()
        os.symlink(rest[0], "link")
        with open("file", "w") as file:
            file.write("real")
        while True:
            for other in ("link", "file"):
                os.rename(other, "swap.txt")
                if other == "link":
                    os.symlink(rest[0], "link")
                else:
                    with open("file", "w") as file:
                        file.write("real")
elif kind == "busy":
    with open("done.txt", "w") as file:
        file.write("done")
    while True:
        pass
