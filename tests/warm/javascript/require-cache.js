console.log(Object.keys(require.cache));
const Module = require('module');
console.log(Module._pathCache);
console.log(Object.keys(Module), Object.getOwnPropertyDescriptor(Module, 'runMain'));
console.log(Module.runMain.name, Module.runMain.length, Module.globalPaths);
