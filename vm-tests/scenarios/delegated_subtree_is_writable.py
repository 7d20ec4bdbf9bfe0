"""An unprivileged service with Delegate= and DelegateSubgroup= makes, limits, fills and kills groups."""

import json

from codesandbox_vm import program

facts = json.loads(
    machine.succeed(
        "systemd-run --quiet --wait --pipe --unit=delegated "
        "-p User=stranger -p Delegate=yes -p DelegateSubgroup=supervisor -p OOMPolicy=continue "
        + program("delegated_subtree.py")
    )
)
assert facts["own_group"].endswith("/delegated.service/supervisor"), facts
assert {"cpu", "io", "memory", "pids"} <= set(facts["leaf_controllers"]), facts
assert facts["memory_max"] == 64 << 20, facts
assert facts["moved_into"].endswith("/delegated.service/leaf"), facts
assert facts["cloned_into"].endswith("/delegated.service/leaf"), facts
assert facts["killed_by_signals"] == [9, 9], facts
assert facts["hog_killed_by"] == 9 and facts["oom_kills"] >= 1, facts
# Nothing outside the delegated subtree may be written.
assert facts["outside_errno"] in ("EACCES", "EPERM"), facts
