import { createRequire } from 'module';
const require = createRequire(import.meta.url);
console.log(require('./part.cjs'), require.main, Object.keys(require.cache));
