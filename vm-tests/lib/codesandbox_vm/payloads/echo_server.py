"""Answers TCP and UDP on port 7777 of the addresses given with what was sent; says "ready"."""

import selectors
import socket
import sys

PORT = 7777
sockets = selectors.DefaultSelector()


def serve(address, kind):
    # Each address by itself: an answer to a datagram must come from where that went to.
    family, _, _, _, place = socket.getaddrinfo(address, PORT, type=kind)[0]
    server = socket.socket(family, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(place)
    if kind == socket.SOCK_STREAM:
        server.listen(64)
    sockets.register(server, selectors.EVENT_READ)


for address in sys.argv[1:]:
    serve(address, socket.SOCK_STREAM)
    serve(address, socket.SOCK_DGRAM)
print("ready", flush=True)
while True:
    for key, _ in sockets.select():
        server = key.fileobj
        if server.type == socket.SOCK_STREAM:
            connection, _ = server.accept()
            connection.sendall(b"hello")
            connection.close()
        else:
            text, client = server.recvfrom(100)
            server.sendto(text, client)
