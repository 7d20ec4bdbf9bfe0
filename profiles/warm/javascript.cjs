// Waits for a program in Node.js, as a preload; serves javascript.toml and typescript.toml.
'use strict';
{
  const fs = require('fs');
  const Module = require('module');
  const path = require('path');
  const { isMainThread } = require('worker_threads');

  // Before the main thread's part: a worker takes the preloads of its process over, so this file
  // runs in workers too and must not be found in their module cache.
  delete require.cache[__filename];
  for (const key of Object.keys(Module._pathCache)) {
    if (Module._pathCache[key] === __filename) delete Module._pathCache[key];
  }

  if (isMainThread) {
    // What any program needs that writes to a pipe, or finds its modules.
    for (const name of ['net', 'tty', 'url', 'vm']) require(name);

    // Node reads this property when everything before the program is done. A getter has returned
    // before the program begins, and a bound function has no frame, so the program's stack is
    // the plain one.
    const plain = Object.getOwnPropertyDescriptor(Module, 'runMain');
    Object.defineProperty(Module, 'runMain', {
      configurable: true,
      enumerable: true,
      get() {
        Object.defineProperty(Module, 'runMain', plain);
        return plain.value.bind(Module, receive());
      },
    });
  }

  // Waits for the job and makes the process what it asks for. Gives the path of the program.
  function receive() {
    const workspace = process.env.PWD ?? '/workspace';
    const before = process.uptime();
    fs.writeSync(4, '.');
    fs.closeSync(4);
    const job = fs.readFileSync(3, 'utf8').split('\0');
    fs.closeSync(3);
    if (job.length < 2) process.reallyExit(0);
    leaveOutOfUptime(process.uptime() - before);

    const count = Number(job[0]);
    for (const name of Object.keys(process.env)) delete process.env[name];
    for (const variable of job.slice(1 + count, -1)) {
      const equals = variable.indexOf('=', 1);
      process.env[variable.slice(0, equals)] = variable.slice(equals + 1);
    }
    process.chdir(workspace);
    const [main, ...rest] = job.slice(2 + process.execArgv.length, 1 + count);
    const program = path.resolve(main);
    process.argv.splice(1, Infinity, program, ...rest);
    return program;
  }

  // Programs take `process.uptime()` for their own running time. Bound, because a plain function
  // would show its text where Node's own shows none.
  function leaveOutOfUptime(waited) {
    const { uptime } = process;
    process.uptime = (() => uptime() - waited).bind();
    Object.defineProperty(process.uptime, 'name', { value: 'uptime', configurable: true });
  }
}
