const fs = require('fs/promises');
Promise.all(Array.from({ length: 8 }, (_, i) => fs.writeFile(`f${i}`, String(i))))
  .then(() => fs.readdir('.'))
  .then((names) => console.log(names.sort()));
require('zlib').gzip('x', (error, data) => console.log(error, data.length));
