console.log(this === module.exports, (function () { return this === globalThis; })(), typeof globalThis.start);
console.log(Object.getOwnPropertyNames(globalThis).join());
var leaked = 1;
console.log(globalThis.leaked);
