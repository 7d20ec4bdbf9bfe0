"""Run in a sandbox: prints who it is and which walls stand, then how its user ids are mapped."""

with open("/proc/self/status") as status:
    found = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
print(found["Uid"].split()[0], found["CapEff"], found["NoNewPrivs"], found["Seccomp"])
with open("/proc/self/uid_map") as uid_map:
    print(len(uid_map.readlines()))
