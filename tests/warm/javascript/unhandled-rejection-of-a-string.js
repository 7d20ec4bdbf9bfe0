Promise.reject('text');
setTimeout(() => console.log('never'), 50);
