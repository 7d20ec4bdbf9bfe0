"""Hosts of an internet: says "hello" over TCP and gives datagrams back at each ADDRESS@PORT given, and answers DNS
queries at the address of --dns from a zone, JSON from names to addresses. Writes down every query.

A name with lists in its list has another answer each time; the last stays.
"""

import argparse
import ipaddress
import json
import selectors
import socket
import struct

TYPES = {1: 4, 28: 6}
NAME_ERROR = 3
SECONDS = 300

parser = argparse.ArgumentParser()
parser.add_argument("--dns")
parser.add_argument("--zone", type=json.loads, default={})
parser.add_argument("places", nargs="*")
options = parser.parse_args()
sockets = selectors.DefaultSelector()


def serve(address, port, kind, answer):
    # Each address by itself: an answer to a datagram must come from where that went to.
    family, _, _, _, place = socket.getaddrinfo(address, port, type=kind)[0]
    server = socket.socket(family, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(place)
    if kind == socket.SOCK_STREAM:
        server.listen(64)
    sockets.register(server, selectors.EVENT_READ, answer)


def greet(server):
    connection, _ = server.accept()
    connection.sendall(b"hello")
    # Kept open until the other side has enough, so that connections can be held.
    sockets.register(connection, selectors.EVENT_READ, hang_up)


def hang_up(connection):
    try:
        if connection.recv(4096):
            return
    except OSError:
        pass
    sockets.unregister(connection)
    connection.close()


def give_back(server):
    text, client = server.recvfrom(2000)
    server.sendto(text, client)


def addresses_of(name):
    entry = options.zone.get(name, [])
    if entry and isinstance(entry[0], list):
        return entry.pop(0) if len(entry) > 1 else entry[0]
    return entry


def resolve(server):
    query, client = server.recvfrom(2000)
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1:at + 1 + length].decode())
        at += 1 + length
    name, kind = ".".join(labels).lower(), struct.unpack("!H", query[at + 1:at + 3])[0]
    print(f"asked for {name} of type {kind}", flush=True)
    found = [ipaddress.ip_address(one) for one in addresses_of(name)]
    wanted = [one.packed for one in found if one.version == TYPES.get(kind)]
    code = 0 if name in options.zone else NAME_ERROR
    answer = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(wanted), 0, 0) + query[12:at + 5]
    for packed in wanted:
        answer += struct.pack("!HHHIH", 0xC00C, kind, 1, SECONDS, len(packed)) + packed
    server.sendto(answer, client)


for place in options.places:
    address, port = place.split("@")
    serve(address, int(port), socket.SOCK_STREAM, greet)
    serve(address, int(port), socket.SOCK_DGRAM, give_back)
if options.dns:
    serve(options.dns, 53, socket.SOCK_DGRAM, resolve)
print("ready", flush=True)
while True:
    for key, _ in sockets.select():
        key.data(key.fileobj)
