# The command for machines that cannot run sandboxes themselves, such as macOS: it carries files to a
# Linux host over SSH, runs `codesandbox` there, and brings back what it fetched.
{
  lib,
  gnutar,
  openssh,
  writeShellApplication,
}:
(writeShellApplication {
  name = "codesandbox";
  runtimeInputs = [
    gnutar
    openssh
  ];
  text = builtins.readFile ./codesandbox.sh;
}).overrideAttrs
  (previous: {
    meta = (previous.meta or { }) // {
      description = "Runs code nobody trusts on a Linux host that has codeSandbox, over SSH";
      license = [
        lib.licenses.mit
        lib.licenses.asl20
      ];
      mainProgram = "codesandbox";
    };
  })
