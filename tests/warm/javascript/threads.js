const fs = require('fs');
console.log(fs.readdirSync('/proc/self/task').length);
console.log(fs.readFileSync('/proc/self/status', 'utf8').match(/^(Sig|Shd).*$/gm).slice(1));
