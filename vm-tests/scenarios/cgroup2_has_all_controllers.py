"""The machine has cgroup v2 alone, with every controller that limits a sandbox, and PSI."""

CONTROLLERS = {"cpu", "cpuset", "io", "memory", "pids"}

t.assertEqual(machine.succeed("stat -f -c %T /sys/fs/cgroup").strip(), "cgroup2fs")
machine.fail("grep -E '^[^ ]+ [^ ]+ cgroup ' /proc/mounts")
missing = CONTROLLERS - set(machine.succeed("cat /sys/fs/cgroup/cgroup.controllers").split())
assert not missing, f"controllers missing: {missing}"
for resource in ("cpu", "io", "memory"):
    assert machine.succeed(f"cat /proc/pressure/{resource}").startswith("some ")
machine.succeed("test -e /sys/fs/cgroup/init.scope/cgroup.kill")
