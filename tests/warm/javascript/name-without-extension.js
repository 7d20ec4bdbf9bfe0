console.log(process.argv, __filename, require.main === module);
