"""Runs a job and kills parts of the service at one moment of it; says how the job ended, and how the next did.

argv: SOCKET EVENT COUNT VICTIM…; the job is on standard input. The moment is when the text EVENT has come
for the COUNTth time in the job's events. Victims: daemon, stub, launcher, group (the launcher's whole cgroup).
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

GROUP = "/sys/fs/cgroup/codesandbox.slice/codesandbox-launcher.service"
HELLO = {"runtime": "bash", "files": [{"content": "echo hello"}], "limits": {"wall_time_ms": 60_000}}
# Until somebody answers again: systemd starts what was killed, or the next connection does.
PATIENCE_SECONDS = 60

_, SOCKET, EVENT, COUNT, *VICTIMS = sys.argv


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def post(job, accept):
    connection = Connection("localhost", timeout=PATIENCE_SECONDS)
    headers = {"Content-Type": "application/json", "Accept": accept}
    connection.request("POST", "/v1/run", json.dumps(job), headers)
    return connection.getresponse()


def main_pid(unit):
    command = ["systemctl", "show", "--property=MainPID", "--value", unit]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def locate():
    stub = main_pid("codesandbox-launcher.service")
    with open(f"/proc/{stub}/task/{stub}/children") as children:
        return {"daemon": main_pid("codesandboxd.service"), "stub": stub, "launcher": int(children.read().split()[0])}


def strike(pids):
    for victim in VICTIMS:
        if victim == "group":
            with open(f"{GROUP}/cgroup.kill", "w") as kill:
                kill.write("1")
        else:
            os.kill(pids[victim], signal.SIGKILL)


def events(reply):
    """Each event of a stream, until its end or until it breaks off."""
    try:
        while line := reply.readline():
            yield json.loads(line)
    except (OSError, http.client.HTTPException, json.JSONDecodeError):
        pass


def broken_off():
    """The job's last event, and whether the moment came."""
    pids, seen, struck, last = locate(), 0, False, None
    for last in events(post(json.load(sys.stdin), "application/x-ndjson")):
        # Not the one that has all of the output once more.
        if last["event"] != "finished":
            seen += json.dumps(last).count(EVENT)
        if seen >= int(COUNT) and not struck:
            strike(pids)
            struck = True
    return last, struck


def next_job():
    """Status and output of a job, asked for until somebody takes it; and how often it was asked for."""
    deadline, attempts = time.monotonic() + PATIENCE_SECONDS, 0
    while True:
        attempts += 1
        try:
            reply = post(HELLO, "application/json")
            body = json.loads(reply.read())
            if reply.status == 200:
                return body["status"], body["run"]["stdout"], attempts
            answer = (reply.status, body)
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            answer = repr(error)
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody takes jobs again: {answer}")


last, struck = broken_off()
status, output, attempts = next_job()
print(json.dumps({"last": last, "struck": struck, "next": [status, output], "attempts": attempts}))
