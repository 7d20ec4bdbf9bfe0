import('./part.mjs').then((part) => console.log(part.default, part.url));
import('fs').then((fs) => console.log(typeof fs.readFileSync));
import('./none.mjs').catch((error) => console.log(error.code, error.message));
console.log('first');
