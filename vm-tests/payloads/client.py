"""Posts each job of the JSON list on standard input to the daemon; prints the list of answers."""

import http.client
import json
import socket
import sys


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/codesandbox/api.sock")


answers = []
for job in json.load(sys.stdin):
    connection = Connection("localhost", timeout=100)
    connection.request("POST", "/v1/run", json.dumps(job), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    answers.append({"code": reply.status, "body": json.loads(reply.read())})
    connection.close()
json.dump(answers, sys.stdout)
