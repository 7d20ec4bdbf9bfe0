process.stdout.write('1\n');
process.nextTick(() => console.log('tick'));
Promise.resolve().then(() => console.log('micro'));
setImmediate(() => console.log('immediate'));
setTimeout(() => console.log('timeout'), 400);
queueMicrotask(() => console.log('queued'));
console.error('error');
console.log('last');
