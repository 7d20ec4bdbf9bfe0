const rl = require('readline/promises').createInterface({ input: process.stdin, output: process.stdout });
rl.question('name? ').then((name) => {
  console.log(`hello ${name}`);
  rl.close();
});
