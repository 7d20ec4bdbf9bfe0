"""Makes a forbidden call and prints whether it went through. With "fatal", a refusal is an error."""

import socket
import sys

print("before", flush=True)
try:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    print("reached", flush=True)
except OSError as error:
    print(error.strerror, flush=True)
    if "fatal" in sys.argv:
        sys.exit(3)
