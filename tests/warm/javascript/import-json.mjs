const first = await import('./data.json', { with: { type: 'json' } });
console.log(first.default);
await import('./data.json').catch((error) => console.log(error.code));
