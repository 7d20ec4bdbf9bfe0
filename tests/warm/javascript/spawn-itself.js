const { spawnSync } = require('child_process');
const result = spawnSync(process.execPath, ['-p', 'JSON.stringify([process.argv, process.execArgv, process.env])'], { encoding: 'utf8' });
console.log(result.stdout, result.stderr, result.status);
const failed = spawnSync(process.execPath, [], { input: 'throw 1', encoding: 'utf8' });
console.log(failed.stderr, failed.status);
