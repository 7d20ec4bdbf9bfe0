#!/bin/bash
# Prints the address of the Debian mirror that this host's apt is configured with, so that no
# address is written down here. Fails when the host has no Debian suite configured.
set -euo pipefail

. /etc/os-release
apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v suite="${VERSION_CODENAME:-}" '
        !found && $2 == suite && $3 == "main" { print $1; found = 1 }
        END { exit !found }'
