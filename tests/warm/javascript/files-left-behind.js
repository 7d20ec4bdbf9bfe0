const fs = require('fs');
fs.mkdirSync('out');
fs.writeFileSync('out/a.txt', 'text');
fs.appendFileSync('main.js', '\n');
console.log(fs.readdirSync('.', { recursive: true }), fs.statSync('out/a.txt').mode.toString(8));
