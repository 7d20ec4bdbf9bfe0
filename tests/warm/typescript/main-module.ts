console.log(require.main === module, __filename, process.argv, process.execArgv, module.paths);
