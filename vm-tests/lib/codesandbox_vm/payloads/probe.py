"""Does so many rounds of what an administrator does on a host; prints how long each took, in seconds,
and the least memory that was available, in bytes."""

import hashlib
import json
import os
import subprocess
import sys
import time

QUESTION = ["systemctl", "show", "--property=ActiveState", "codesandboxd.service"]


def one_round():
    subprocess.run(QUESTION, stdout=subprocess.DEVNULL, check=True)
    hashlib.sha256(bytes(1 << 20)).digest()
    with open("/var/tmp/probe", "wb") as file:
        file.write(bytes(1 << 12))
        os.fsync(file.fileno())
    os.unlink("/var/tmp/probe")


def available():
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


seconds, memory = [], []
for _ in range(int(sys.argv[1])):
    began = time.monotonic()
    one_round()
    seconds.append(time.monotonic() - began)
    memory.append(available())
print(json.dumps({"seconds": seconds, "available_bytes": min(memory)}))
