console.log(process.env, Object.keys(process.env));
console.log('NODE_OPTIONS' in process.env, process.env.toString());
