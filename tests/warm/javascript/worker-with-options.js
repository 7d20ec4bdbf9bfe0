const { Worker, isMainThread } = require('worker_threads');
if (isMainThread) {
  new Worker(__filename, { execArgv: ['--no-warnings'], env: { A: '1' } }).on('exit', () =>
    new Worker(__filename, { env: { ...process.env, NODE_OPTIONS: '--stack-trace-limit=3' } }).on('exit', () =>
      new Worker(__filename, { env: require('worker_threads').SHARE_ENV, resourceLimits: { maxOldGenerationSizeMb: 20 } })));
} else {
  console.log(process.execArgv, process.env.A, process.env.NODE_OPTIONS, Error.stackTraceLimit, Object.keys(require.cache));
}
