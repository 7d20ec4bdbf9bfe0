const { Worker } = require('worker_threads');
new Worker('throw new Error("no")', { eval: true });
