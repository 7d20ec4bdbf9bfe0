Object.defineProperty(process, 'pid', { value: 2 });
process.emitWarning('careful', { code: 'W1', detail: 'more' });
process.on('warning', (warning) => console.log(warning.stack));
process.emitWarning('old', 'DeprecationWarning', 'D1');
