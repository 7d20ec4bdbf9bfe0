"""A compile step that leaves what it should not, under a name that the service will use: program,
the input files' own names, and names that are handed out."""

import os
import socket
import sys

kind, target = sys.argv[1] if len(sys.argv) > 1 else open("kind").read(), "/etc/hostname"
names = ["program", "kind", "result", "main.py"]
for name in names:
    if os.path.lexists(name):
        os.unlink(name)
    if kind == "link":
        os.symlink(open("target").read() if os.path.exists("target") else target, name)
    elif kind == "loop":
        os.symlink(name, name)
    elif kind == "parent":
        os.symlink("/", name)
    elif kind == "fifo":
        os.mkfifo(name)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(name)
    elif kind == "directory":
        os.mkdir(name)
    elif kind == "device":
        try:
            os.mknod(name, 0o020666, os.makedev(1, 5))
        except OSError:
            open(name, "w").close()
    elif kind == "hardlink":
        try:
            os.link("/etc/passwd", name)
        except OSError:
            open(name, "w").close()
    elif kind == "closed":
        open(name, "w").close()
        os.chmod(name, 0)
    elif kind == "script":
        with open(name, "w") as file:
            file.write("#!/proc/self/exe\n")
        os.chmod(name, 0o755)
    elif kind == "object":
        with open(name, "wb") as file:
            file.write(b"\x7fELF\x02\x01\x01" + bytes(57))
        os.chmod(name, 0o755)
if kind == "closed":
    os.chmod(".", 0)
