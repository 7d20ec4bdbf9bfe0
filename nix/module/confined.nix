# What a unit may do that talks to others on Unix sockets and does nothing else; systemd.exec(5).
{
  # No privilege of any kind.
  CapabilityBoundingSet = "";
  AmbientCapabilities = "";
  NoNewPrivileges = true;
  RestrictNamespaces = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  LockPersonality = true;
  MemoryDenyWriteExecute = true;
  SystemCallArchitectures = "native";
  # @resources stays allowed: the C library asks for the stack's limit with prlimit64.
  SystemCallFilter = [
    "@system-service"
    "~@privileged"
  ];
  SystemCallErrorNumber = "EPERM";
  KeyringMode = "private";
  RemoveIPC = true;
  # PrivateUsers= is not used: each side of a Unix socket would look like "nobody" to the other, in SO_PEERCRED.

  # Only Unix sockets, and no interface behind them; a socket of TCP is systemd's, which hands it over.
  PrivateNetwork = true;
  RestrictAddressFamilies = "AF_UNIX";
  IPAddressDeny = "any";

  # Sees little, writes nothing but its state directory, where it has one.
  DevicePolicy = "closed";
  PrivateDevices = true;
  PrivateIPC = true;
  PrivateTmp = true;
  ProtectClock = true;
  ProtectControlGroups = true;
  ProtectHome = true;
  ProtectHostname = true;
  ProtectKernelLogs = true;
  ProtectKernelModules = true;
  ProtectKernelTunables = true;
  ProtectProc = "invisible";
  ProcSubset = "pid";
  ProtectSystem = "strict";
}
