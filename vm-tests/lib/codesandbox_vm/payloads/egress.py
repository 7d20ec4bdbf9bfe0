"""Tries to reach each PROTOCOL:HOST@PORT given, and each unix:PATH; prints as JSON how it went."""

import errno
import json
import socket
import sys

# Who waits so long in an emulated machine was met with silence.
PATIENCE_SECONDS = 6
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def reached(target):
    protocol, place = target.split(":", 1)
    if protocol == "unix":
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(place)
            return "reached"
    host, port = place.rsplit("@", 1)
    family, kind, _, _, address = socket.getaddrinfo(host, int(port), type=KINDS[protocol])[0]
    with socket.socket(family, kind) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(address)
        if protocol == "udp":
            client.send(b"hello")
        return "reached" if client.recv(100) == b"hello" else "closed"


def attempt(target):
    try:
        return reached(target)
    except TimeoutError:
        return "silence"
    except socket.gaierror as error:
        return f"no such name: {error.errno}"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


print(json.dumps({target: attempt(target) for target in sys.argv[1:]}))
