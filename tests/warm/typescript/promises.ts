const wait = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
async function main(): Promise<void> {
  await wait(5);
  throw new Error('asynchronous');
}
main();
