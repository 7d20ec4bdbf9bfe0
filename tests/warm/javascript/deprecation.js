Object.defineProperty(process, 'pid', { value: 2 });
const buffer = require('buffer');
new buffer.Buffer(3);
require('util').isArray?.([]);
require('url').parse('http://a.example:bad/');
