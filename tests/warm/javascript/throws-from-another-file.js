require('./part').run(() => JSON.parse('{'));
