const { fork } = require('child_process');
if (process.argv[2] === 'child') {
  process.send({ argv: process.argv, execArgv: process.execArgv, options: process.env.NODE_OPTIONS, cache: Object.keys(require.cache) });
} else {
  const child = fork(__filename, ['child']);
  child.on('message', (message) => {
    console.log(message);
    child.disconnect();
  });
  child.on('exit', (code) => console.log(code));
}
