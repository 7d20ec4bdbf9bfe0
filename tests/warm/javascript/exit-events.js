let rounds = 0;
process.on('beforeExit', () => {
  console.log('beforeExit', rounds);
  if (rounds++ < 2) setTimeout(() => console.log('again'), 1);
});
process.on('exit', () => console.log('exit'));
console.log(process.listenerCount('exit'), process.eventNames());
