console.log(process.env, JSON.stringify(process.env));
