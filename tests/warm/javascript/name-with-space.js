console.log(process.argv, __filename, require.main === module);
throw new Error('here');
