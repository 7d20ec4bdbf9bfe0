"""Posts the jobs of the JSON list on standard input to the socket given, so many at once (default: 1);
prints the list of answers."""

import concurrent.futures
import http.client
import json
import socket
import sys

# Long enough for a job that waits for all others, and short enough for a scenario.
SECONDS = 300


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(sys.argv[1])


def post(job):
    connection = Connection("localhost", timeout=SECONDS)
    connection.request("POST", "/v1/run", json.dumps(job), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    answer = {"code": reply.status, "body": json.loads(reply.read())}
    connection.close()
    return answer


at_once = int(sys.argv[2]) if len(sys.argv) > 2 else 1
with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
    json.dump(list(pool.map(post, json.load(sys.stdin))), sys.stdout)
