console.table([{ a: 1 }]);
console.group('g');
console.warn('w');
console.groupEnd();
console.assert(false, 'no');
console.trace('t');
console.dir({ a: { b: { c: {} } } }, { depth: 0 });
