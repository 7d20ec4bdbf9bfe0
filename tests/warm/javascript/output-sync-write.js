const fs = require('fs');
fs.writeSync(1, 'a');
console.log('b');
fs.writeSync(2, 'c');
process.stdout.end('d\n', () => fs.writeSync(2, 'ended'));
console.log(process.stdout.fd, process.stdout.isTTY, process.stdout.constructor.name, process.stdout.writableHighWaterMark, process.stderr._type);
