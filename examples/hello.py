"""Says hello, and what a program in a sandbox sees of the world."""

import os
import socket
import sys

version = ".".join(str(number) for number in sys.version_info[:2])
processes = [name for name in os.listdir("/proc") if name.isdigit()]

print(f"Hello from Python {version}!")
print(f"I am user {os.getuid()} on {socket.gethostname()}, in {os.getcwd()}.")
print(f"I see {len(processes)} process: myself.")
