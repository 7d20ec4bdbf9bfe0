console.log(process.env.NODE_OPTIONS);
