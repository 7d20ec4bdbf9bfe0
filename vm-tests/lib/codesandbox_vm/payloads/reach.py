"""Tries each address given, by TCP and by UDP; prints how it went and how many seconds it took.

Multicast and broadcast have UDP alone, and nobody answers: what counts is that it was sent.
"""

import errno
import ipaddress
import json
import socket
import sys
import time

PORT = 7777
# Refusals come at once; who waits so long was met with silence.
PATIENCE_SECONDS = 5


def attempt(action):
    began = time.monotonic()
    try:
        action()
        result = "reached"
    except TimeoutError:
        result = "silence"
    except OSError as error:
        result = errno.errorcode.get(error.errno, str(error))
    return {"result": result, "seconds": time.monotonic() - began}


def connected(address, kind):
    family, _, _, _, place = socket.getaddrinfo(address, PORT, type=kind)[0]
    client = socket.socket(family, kind)
    client.settimeout(PATIENCE_SECONDS)
    if kind == socket.SOCK_DGRAM and family == socket.AF_INET:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    client.connect(place)
    return client


def by_tcp(address):
    with connected(address, socket.SOCK_STREAM) as client:
        client.recv(100)


def by_udp(address):
    with connected(address, socket.SOCK_DGRAM) as client:
        client.send(b"hello")
        if not nobody_answers(address):
            client.recv(100)


def nobody_answers(address):
    return ipaddress.ip_address(address.split("%")[0]).is_multicast or address.endswith(".255")


def try_all(address):
    results = {"udp": attempt(lambda: by_udp(address))}
    if not nobody_answers(address):
        results["tcp"] = attempt(lambda: by_tcp(address))
    return results


print(json.dumps({address: try_all(address) for address in sys.argv[1:]}))
