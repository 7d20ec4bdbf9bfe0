import { part } from './part';
console.log(part, __filename);
