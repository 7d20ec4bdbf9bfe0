for await (const part of process.stdin) console.log(part.toString());
console.log('done');
