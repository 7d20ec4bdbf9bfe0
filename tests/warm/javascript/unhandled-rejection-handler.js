process.on('unhandledRejection', (reason) => console.log('seen', reason));
process.on('uncaughtException', (error, origin) => console.log(origin, error.message));
Promise.reject(1);
setTimeout(() => { throw new Error('later'); }, 1);
