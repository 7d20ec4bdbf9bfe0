console.log('before');
process.kill(process.pid, 'SIGABRT');
setTimeout(() => console.log('never'), 10000);
