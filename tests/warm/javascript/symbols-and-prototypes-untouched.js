console.log(Object.getOwnPropertyNames(Array.prototype).length, Object.getOwnPropertyNames(String.prototype).length);
console.log(Reflect.ownKeys(process).map(String).join(), Reflect.ownKeys(process.env).length);
console.log(Object.getOwnPropertyDescriptor(process, 'execArgv'), Object.getOwnPropertyDescriptor(process, 'env').writable);
