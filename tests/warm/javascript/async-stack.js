const wait = () => new Promise((resolve) => setTimeout(resolve, 1));
async function inner() {
  await wait();
  throw new Error('asynchronous');
}
async function outer() {
  await inner();
}
outer();
