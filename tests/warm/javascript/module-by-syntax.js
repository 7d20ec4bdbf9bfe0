import { basename } from 'path';
console.log(basename(import.meta.url), typeof require);
export {};
