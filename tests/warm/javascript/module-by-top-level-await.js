const number = await Promise.resolve(5);
console.log(number);
