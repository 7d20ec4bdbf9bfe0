Object.defineProperty(process, 'pid', { value: 2 });
const emitter = new (require('events'))();
for (let i = 0; i < 12; i++) emitter.on('x', () => {});
