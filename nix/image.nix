# The whole service as an image for Kubernetes, Fly.io, Docker or Podman:
#
#   nix build .#image && podman load < result
#   podman run --privileged --volume codesandbox:/run/codesandbox localhost/codesandbox
#
# It answers on /run/codesandbox/api.sock. Sandboxes need user namespaces and a cgroup of their own
# to divide, and mount a /proc of their own, which containers without privilege may not; where the
# cgroup is not there, it says so in every answer.
{
  lib,
  coreutils,
  dockerTools,
  runCommand,
  service,
  tini,
}:
let
  # One program is both daemon and launcher here, as root of the container. Its sandboxes are these
  # ids, and not root.
  accounts = runCommand "codesandbox-accounts" { } ''
    mkdir -p "$out/etc"
    printf '%s\n' 'root:x:0:0::/:/bin/false' 'nobody:x:65534:65534::/:/bin/false' > "$out/etc/passwd"
    printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' > "$out/etc/group"
    echo 'root:100000:65536' | tee "$out/etc/subuid" > "$out/etc/subgid"
  '';
in
dockerTools.buildLayeredImage {
  name = "codesandbox";
  tag = service.package.version;
  contents = [
    accounts
    service.package
    # For `kubectl exec` and health checks.
    coreutils
  ];
  extraCommands = ''
    mkdir -p run/codesandbox
    mkdir -m 1777 tmp
  '';
  config = {
    # Something has to wait for the processes that a container's pid 1 inherits.
    Entrypoint = [
      (lib.getExe tini)
      "--"
      "${service.package}/bin/codesandboxd"
    ];
    Cmd = [
      "--embedded"
      "--listen"
      "/run/codesandbox/api.sock"
      "--config"
      "${service.configFile}"
    ];
    Volumes."/run/codesandbox" = { };
    Labels = {
      "org.opencontainers.image.title" = "codeSandbox";
      "org.opencontainers.image.version" = service.package.version;
      "org.opencontainers.image.licenses" = "MIT OR Apache-2.0";
    };
  };
}
