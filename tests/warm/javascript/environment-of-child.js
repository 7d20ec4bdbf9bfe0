const { execFileSync } = require('child_process');
process.stdout.write(execFileSync('/usr/bin/env'));
