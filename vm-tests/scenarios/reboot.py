"""After a reboot the sockets listen, the first connection starts the service, and nothing is left of before."""

from codesandbox_vm import begin_jobs, bash, have_none_wait, health, leftovers, python, run_jobs

SOCKETS = ("codesandboxd.socket", "codesandbox-launcher.socket")
SERVICES = ("codesandboxd.service", "codesandbox-launcher.service")
# The kernel settings and tables that the service brings.
FACTS = """
    sysctl --values kernel.dmesg_restrict kernel.kptr_restrict kernel.yama.ptrace_scope
    nft list table inet codesandbox | sed 's/packets [0-9]* bytes [0-9]*//'
    stat --format='%n %U %G %a' /run/codesandbox/*.sock
"""
A_PROGRAM_RUNS = "find /sys/fs/cgroup -path '*/leaf-*/cgroup.procs' -exec cat {} + | grep -q ."

# Where the host loads tables when it boots, ours is among them.
machine.succeed("systemctl is-enabled --quiet nftables.service || systemctl enable --quiet --now nftables.service")
before = machine.succeed(FACTS)
assert "table inet codesandbox" in before, before
boot = machine.succeed("cat /proc/sys/kernel/random/boot_id")
# In the middle of a job, which is when there is something to be left behind.
first, = run_jobs(machine, bash("echo first"))
have_none_wait(machine)
begin_jobs(machine, "long", python("import signal; signal.pause()"))
machine.wait_until_succeeds(A_PROGRAM_RUNS)
assert [line for line in leftovers(machine) if line.startswith(("cgroup", "process"))]

machine.shutdown()
machine.start()
machine.wait_for_unit("sockets.target")
t.assertNotEqual(machine.succeed("cat /proc/sys/kernel/random/boot_id"), boot)

with subtest("the sockets listen, and nobody has started anything"):
    for socket in SOCKETS:
        machine.wait_for_unit(socket)
    for service in SERVICES:
        machine.require_unit_state(service, "inactive")
    t.assertEqual(machine.succeed(FACTS), before)

with subtest("nothing is left of before"):
    # Sockets are what systemd has made since.
    t.assertEqual([line for line in leftovers(machine) if not line.endswith(".sock")], [])
    machine.fail("ls /run/codesandbox-launcher/ids-*.lock")

with subtest("the first connection starts the service, and a job runs"):
    machine.succeed(f"runuser -u client -- {health()}")
    second, = run_jobs(machine, bash("echo second"))
    t.assertEqual(second["run"]["stdout"], "second\n")
    t.assertEqual(second["limits"]["enforced_by"], "cgroup2")
    assert second["id"] != first["id"]
    machine.require_unit_state("codesandbox-launcher.service")
    machine.succeed("ls /run/codesandbox-launcher/ids-*.lock")
