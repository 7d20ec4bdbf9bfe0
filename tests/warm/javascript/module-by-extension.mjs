import fs, { readFileSync } from 'node:fs';
import { x } from './other.mjs';
import data from './data.cjs';
console.log(x, data, fs.readFileSync === readFileSync, import.meta.url, import.meta.main, import.meta.filename);
console.log(new Error('in a module').stack);
console.log(await import('./other.mjs'));
