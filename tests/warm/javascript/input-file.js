const fs = require('fs');
console.log(fs.readFileSync(0, 'utf8').split('\n'), fs.fstatSync(0).isFIFO());
console.log(fs.readFileSync('/dev/stdin', 'utf8').length);
