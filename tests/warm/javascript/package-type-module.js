import { readFileSync } from 'fs';
console.log(typeof require, typeof module, this, import.meta.url);
console.log(import.meta.filename, import.meta.dirname, import.meta.main, Object.keys(import.meta));
console.log(import.meta.resolve?.('./x.js'), readFileSync('package.json', 'utf8'));
console.log(await Promise.resolve(7), process.argv);
