const { Worker, isMainThread, workerData } = require('worker_threads');
if (isMainThread) {
  const worker = new Worker(__filename, { workerData: 5, argv: ['x'] });
  worker.on('message', (message) => console.log(message));
  worker.on('exit', (code) => console.log('exit', code));
} else {
  const Module = require('module');
  const error = new Error('in a worker');
  require('worker_threads').parentPort.postMessage({
    workerData, argv: process.argv, execArgv: process.execArgv, env: process.env, cache: Object.keys(require.cache),
    paths: Module._pathCache, main: require.main === module, parent: module.parent, stack: error.stack,
    keys: Object.keys(Module), names: Object.keys(globalThis), resources: process.getActiveResourcesInfo(),
  });
  process.exit(4);
}
