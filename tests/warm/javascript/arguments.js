console.log(process.argv, process.argv0, process.execArgv, process.execPath, process.title);
console.log(process.argv.length, Object.getOwnPropertyDescriptor(process, 'argv'));
console.log(require('node:util').parseArgs({ strict: false }));
