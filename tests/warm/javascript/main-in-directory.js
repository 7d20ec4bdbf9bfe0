console.log(__filename, __dirname, process.argv, process.cwd());
console.log(require('./beside'), module.paths);
throw new Error('at the end');
