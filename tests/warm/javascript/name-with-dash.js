console.log(process.argv, __filename);
