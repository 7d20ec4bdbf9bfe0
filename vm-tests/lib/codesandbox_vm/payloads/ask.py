"""Sends the requests of the JSON list on standard input to the socket given, one after another; prints the list
of answers. A request is a list of method, path and, if you like, a body: JSON, or text as it is."""

import http.client
import json
import socket
import sys

SECONDS = 200


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(sys.argv[1])


def ask(method, path, body=None):
    connection = Connection("localhost", timeout=SECONDS)
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    kind = "application/octet-stream" if isinstance(body, str) else "application/json"
    connection.request(method, path, text, {} if body is None else {"Content-Type": kind})
    reply = connection.getresponse()
    content, is_json = reply.read(), "json" in (reply.headers.get("Content-Type") or "")
    connection.close()
    return {"code": reply.status, "body": json.loads(content) if is_json else content.decode(errors="replace")}


json.dump([ask(*request) for request in json.load(sys.stdin)], sys.stdout)
