"""Ways in which a scenario ends early, with the NixOS driver's names where it has one."""


class RequestedAssertionFailed(AssertionError):
    """The guest did not do what the scenario claims."""


class MachineError(Exception):
    """The machine cannot do what it was asked for, for no fault of the guest's."""
