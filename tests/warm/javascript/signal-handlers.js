process.on('SIGTERM', (...given) => {
  console.log(given);
  process.exit(5);
});
setTimeout(() => {}, 10000);
process.kill(process.pid, 'SIGTERM');
